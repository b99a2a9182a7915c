"""Ends bad trials early."""

from collections.abc import Callable

import lightning as L
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner

from digitnet.training.callbacks import EpochLog
from digitnet.training.callbacks.base import EpochEndCallback

PRUNERS: dict[str, Callable[[int | None], BasePruner]] = {
    "hyperband": lambda max_epochs: HyperbandPruner(min_resource=1, max_resource=max_epochs or "auto"),
    "median": lambda max_epochs: MedianPruner(),
    "none": lambda max_epochs: NopPruner(),
}
"""The rules by name. Each is given the number of epochs of a trial, or None if trials differ in it."""


class Pruning(EpochEndCallback):
    """Reports the validation accuracy of every epoch to a trial, and ends the run if the trial is pruned.

    The run ends as early stopping ends it: the epoch is saved, and the run folder is complete.

    Args:
        trial: The trial.

    Attributes:
        pruned: Whether the run was ended.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.pruned = False
        self._reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch, and those that a process killed after saving them has not reported."""
        (epoch_log,) = (callback for callback in trainer.callbacks if isinstance(callback, EpochLog))  # type: ignore[attr-defined]
        accuracies = {int(each["epoch"]) + 1: each["val/acc"] for each in epoch_log.history if "val/acc" in each}
        for epoch in sorted(accuracies.keys() - self._reported):
            self.trial.report(accuracies[epoch], epoch)
            self._reported.add(epoch)
        is_last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        if not is_last_epoch and self.trial.should_prune():
            self.pruned = trainer.should_stop = True
