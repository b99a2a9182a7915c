"""Logs histograms of the weights and gradients to TensorBoard."""

from typing import Any

import lightning as L

from digitnet.training.callbacks.tensorboard import summary_writer


class Histograms(L.Callback):
    """Logs histograms of all weights and of their gradients after the last step of each epoch."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the histograms here, because the gradients are deleted before validation."""
        if not trainer.is_last_batch or (writer := summary_writer(trainer)) is None:
            return
        for name, parameter in pl_module.named_parameters():
            writer.add_histogram(f"weights/{name}", parameter, trainer.global_step)
            if parameter.grad is not None:
                writer.add_histogram(f"weights_grad/{name}", parameter.grad, trainer.global_step)
