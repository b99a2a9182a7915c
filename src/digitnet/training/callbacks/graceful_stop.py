"""Saves last.ckpt and ends the run when SIGTERM, SIGUSR1 or Ctrl-C was received."""

from typing import Any

import lightning as L
import torch

from digitnet.signals import SignalState, raise_if_pending, reinstall_handlers
from digitnet.training.callbacks.base import EpochEndCallback
from digitnet.training.callbacks.run_checkpoint import RunCheckpoint
from digitnet.training.run_dir import last_checkpoint

_STEPS_BETWEEN_AGREEMENTS = 10


class GracefulStop(EpochEndCallback):
    """Ends a run after the current batch when SIGTERM, SIGUSR1 or Ctrl-C was received, with `last.ckpt` saved.

    Args:
        run_checkpoint: The callback that saves the run. It must precede this callback in the Trainer's list.
    """

    def __init__(self, run_checkpoint: RunCheckpoint) -> None:
        self.run_checkpoint = run_checkpoint

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the signal handlers again, since Lightning has replaced them."""
        reinstall_handlers()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end the run if a signal was received.

        Nothing is saved after the last batch of an epoch, because the epoch is saved a moment later anyway, nor between
        the batches of an accumulated gradient, because a checkpoint does not hold gradients.
        """
        batches = batch_idx + 1
        gradient_applied = batches % trainer.accumulate_grad_batches == 0
        if gradient_applied and batches < trainer.num_training_batches and shutdown_requested(trainer, batches):
            self.run_checkpoint.save(trainer, pl_module, last_checkpoint(self.run_checkpoint.run_dir))
            raise_if_pending()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let Lightning end the run after the loggers have received the metrics of the epoch, which is saved by now."""
        if shutdown_requested(trainer):
            trainer.should_stop = True


def shutdown_requested(trainer: L.Trainer, step: int = 0) -> bool:
    """Return whether a signal was received by any process of the run.

    Several processes agree on it every ten steps. If one left alone, the others would wait for it forever.

    Args:
        trainer: The Trainer of the run.
        step: Number of batches done in this epoch, or 0 at the end of the epoch.

    Returns:
        Whether the run should end.
    """
    if trainer.world_size == 1:
        return SignalState.pending is not None
    if step % _STEPS_BETWEEN_AGREEMENTS:
        return False
    pending = torch.tensor(SignalState.pending or 0, device=trainer.strategy.root_device)
    SignalState.pending = int(trainer.strategy.reduce(pending, reduce_op="max")) or None
    return SignalState.pending is not None
