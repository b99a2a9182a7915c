"""Logs the settings, the learning rate and the final metrics of a run to loggers other than TensorBoard."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from digitnet.training.run_dir import FINAL_METRICS


class LoggerReport(L.Callback):
    """Logs the settings and the learning rate to every logger but TensorBoard, which `TensorBoardReport` serves.

    Args:
        hparams: The settings of the run.
    """

    def __init__(self, hparams: dict[str, Any]) -> None:
        self.hparams = hparams

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the settings."""
        for logger in _other_loggers(trainer):
            logger.log_hyperparams(self.hparams)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the learning rate, under a name that does not depend on the optimizer."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and trainer.global_step % every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            for logger in _other_loggers(trainer):
                logger.log_metrics({"lr": rate}, step=trainer.global_step)


def log_final_metrics(trainer: L.Trainer, result: Mapping[str, Any]) -> None:
    """Log the metrics of the best epoch to every logger but TensorBoard, as `whole_run/...`.

    Args:
        trainer: The Trainer of the run.
        result: The result, as in metrics.json.
    """
    finals = {f"whole_run/{name.replace('/', '_')}": result[name] for name in FINAL_METRICS if name in result}
    for logger in _other_loggers(trainer):
        logger.log_metrics(finals, step=trainer.global_step)


def _other_loggers(trainer: L.Trainer) -> list[Logger]:
    return [logger for logger in trainer.loggers if not isinstance(logger, TensorBoardLogger)]
