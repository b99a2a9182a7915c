"""Remembers, for a resumed run, its planned number of steps and whether early stopping has ended it."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from digitnet.training.callbacks.base import EpochEndCallback


class RunLength(EpochEndCallback):
    """Remembers the planned length of a run, and whether the run has ended by itself before.

    A run that early stopping has ended stays ended when it is resumed, until its stop criteria change. A run that is
    resumed with another number of steps reports that its learning rate no longer follows one schedule.

    Args:
        stop_criteria: The Trainer's settings that can end a run, as in the config.
    """

    def __init__(self, stop_criteria: dict[str, Any] | None = None) -> None:
        self.stop_criteria = stop_criteria or {}
        self._scheduled_steps: float | None = None
        self._stopped_under: dict[str, Any] | None = None  # the stop criteria of a run that has ended by itself

    def state_dict(self) -> dict[str, Any]:
        """Return the planned number of steps and the criteria under which the run has ended, for the checkpoint."""
        return {"scheduled_steps": self._scheduled_steps, "stopped_under": self._stopped_under}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` has returned."""
        self._scheduled_steps, self._stopped_under = state_dict["scheduled_steps"], state_dict["stopped_under"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End a resumed run at once if it has ended under the same criteria, which Lightning does not remember."""
        trainer.should_stop = self._stopped_under == self.stop_criteria

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report a change of the planned number of steps."""
        steps = trainer.estimated_stepping_batches
        if self._scheduled_steps not in (None, steps) and trainer.is_global_zero:
            print(
                f"The run was planned for {self._scheduled_steps} steps and now has {steps}. From here on the learning "
                "rate follows the schedule of the longer or shorter run, so the result equals neither."
            )
        self._scheduled_steps = steps

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember whether early stopping, or another stop criterion, ends the run here."""
        self._stopped_under = self.stop_criteria if trainer.should_stop else None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print why the run has ended before its last epoch, if a stop criterion has ended it."""
        reasons = [reason for callback in trainer.callbacks if (reason := _stop_reason(callback))]  # type: ignore[attr-defined]
        if reasons and self._stopped_under is not None and trainer.is_global_zero:
            print(f"stopped after epoch {trainer.current_epoch}: {'; '.join(reasons)}", flush=True)


def _stop_reason(callback: L.Callback) -> str | None:
    """Return why a callback has ended the run, or None if it has not."""
    if isinstance(callback, Timer):
        remaining = callback.time_remaining()
        return "the time of trainer.max_time is over" if remaining is not None and remaining <= 0 else None
    if not isinstance(callback, EarlyStopping) or callback.stopping_reason is EarlyStoppingReason.NOT_STOPPED:
        return None
    if callback.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
        patience = f"early stopping with patience {callback.patience}"
        return f"{callback.monitor} has not improved on {callback.best_score:.4f} ({patience})"
    message = str(callback.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
    return f"{message} (early stopping)"
