"""The progress bar of a run in a terminal."""

import time
from typing import Any

from lightning.pytorch.callbacks import TQDMProgressBar

SECONDS_BETWEEN_UPDATES = 0.2


class TimedProgressBar(TQDMProgressBar):
    """Lightning's progress bar, drawn five times a second instead of every so many steps.

    To draw it takes as long as a training step of the MLP.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_update = 0.0

    def _should_update(self, current: int, total: int | Any) -> bool:
        """Return whether to draw the bar after `current` of `total` batches; Lightning asks this after each batch."""
        now = time.monotonic()
        is_due = current == total or now - self._last_update >= SECONDS_BETWEEN_UPDATES
        if is_due:
            self._last_update = now
        return is_due and bool(self.is_enabled)
