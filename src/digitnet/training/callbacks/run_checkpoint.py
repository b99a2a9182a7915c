"""Saves best.ckpt and last.ckpt at the end of every epoch."""

import math
from pathlib import Path

import lightning as L

from digitnet.checkpoints.atomic import atomic_write
from digitnet.errors import DivergenceError
from digitnet.models import DigitClassifier
from digitnet.training.callbacks.base import EpochEndCallback
from digitnet.training.callbacks.epoch_log import EpochLog
from digitnet.training.run_dir import best_checkpoint, last_checkpoint


class RunCheckpoint(EpochEndCallback):
    """Saves `checkpoints/last.ckpt` after every epoch, and `checkpoints/best.ckpt` after every improvement.

    The best epoch has the highest `val/acc`; of equals it is the earlier one, and without validation the last one. A
    run that has diverged is not saved.

    Lightning's ModelCheckpoint saves its "last" checkpoint only together with a "best" one, saves nothing without
    validation, and forgets the best score when a run is resumed in another directory.

    Args:
        run_dir: The run folder.
        epoch_log: The records of the epochs. It must precede this callback in the Trainer's list.
    """

    def __init__(self, run_dir: Path, epoch_log: EpochLog) -> None:
        self.run_dir = run_dir
        self.epoch_log = epoch_log

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the epoch, then write its record.

        The best checkpoint is saved first: a run that is killed before the last one is saved repeats this epoch, and
        loses nothing.
        """
        best, last = best_checkpoint(self.run_dir), last_checkpoint(self.run_dir)
        improved = self.epoch_log.best_epoch is self.epoch_log.history[-1]
        self.save(trainer, pl_module, best if improved else last)
        if trainer.is_global_zero:
            if improved:
                atomic_write(last, best.read_bytes())
            self.epoch_log.write(trainer)

    def save(self, trainer: L.Trainer, pl_module: L.LightningModule, path: Path) -> None:
        """Save a checkpoint, unless the run has diverged.

        Args:
            trainer: The Trainer of the run.
            pl_module: The model, a DigitClassifier.
            path: The checkpoint to replace.

        Raises:
            DivergenceError: If a weight or a metric is not finite.
            RunError: If the checkpoint cannot be written.
        """
        record = self.epoch_log.history[-1] if self.epoch_log.history else {}
        not_finite = [name for name, value in record.items() if not math.isfinite(value)]
        assert isinstance(pl_module, DigitClassifier)
        if pl_module.has_diverged():
            not_finite.append("a weight or the running loss")
        if not_finite:
            raise DivergenceError(
                f"diverged in epoch {trainer.current_epoch + 1}: {not_finite[0]} is not finite; try an optimizer.lr "
                f"below {pl_module.hparams['lr']:g}. The checkpoints in {self.run_dir} are from before"
            )
        trainer.save_checkpoint(path)
