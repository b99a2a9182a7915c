"""Lightning's logger for TensorBoard, without the charts that say nothing."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

# Lightning adds the number of the epoch to each call. The test gives one point, which is logged as whole_run/test_acc.
_NO_CHARTS = {"epoch", "test/acc", "test/loss"}


class RunTensorBoardLogger(TensorBoardLogger):
    """`TensorBoardLogger` without a chart of the epoch's number and without charts of one point for the test.

    TensorBoard sorts charts by name, so that these would come before the curves.
    """

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, each in a chart of its own.

        Args:
            metrics: The values by name.
            step: Number of optimizer steps that were taken.
        """
        super().log_metrics({name: value for name, value in metrics.items() if name not in _NO_CHARTS}, step)
