"""What a run shows in TensorBoard beyond the figures of each epoch."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchvision.utils import make_grid

from digitnet import figures
from digitnet.models import DigitClassifier

MISTAKES_SHOWN = 24
OVERLAYS = {
    part: ["Multiline", [f"^train/{key}$", f"^val/{key}$"]] for part, key in {"loss": "loss", "accuracy": "acc"}.items()
}


class TensorBoardReport(L.Callback):
    """Training over validation on one chart, the learning rate, and a batch as the network sees it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (writer := writer_of(trainer)) is None or trainer.global_step:  # a resumed run has them already
            return
        writer.add_custom_scalars({"training and validation": OVERLAYS})
        images, _ = next(iter(trainer.train_dataloader or ()))
        pixels = images[:64].float() / (255 if images.dtype == torch.uint8 else 1)
        writer.add_image("train/images", make_grid(pixels.unsqueeze(1)))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step % every == 0 and (writer := writer_of(trainer)):
            writer.add_scalar("lr", trainer.optimizers[0].param_groups[0]["lr"], trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if writer := writer_of(trainer):
            writer.flush()  # so that the curves move while a short run lasts


def writer_of(trainer: L.Trainer) -> SummaryWriter | None:
    """None where there is no TensorBoard logger, and on all processes but the first."""
    if not trainer.is_global_zero:
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def add_outcome(trainer: L.Trainer, params: Mapping[str, Any], finals: Mapping[str, float]) -> None:
    """The run's one record in the HPARAMS tab, which keeps the first it is given and no later one."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(params), dict(finals), step=trainer.global_step)


@torch.inference_mode()
def add_mistakes(trainer: L.Trainer, model: DigitClassifier, images: Tensor, labels: Tensor) -> None:
    if (writer := writer_of(trainer)) is None:
        return
    logits = torch.cat([model(part.to(model.device)).cpu() for part in torch.split(images, 1000)])
    images, labels, predicted = images.cpu(), labels.cpu(), logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=10, validate_args=False)
    writer.add_figure("val/confusion", figures.draw_confusion(confusion), trainer.global_step)
    losses = F.cross_entropy(logits, labels, reduction="none").masked_fill(predicted == labels, 0)
    worst = losses.argsort(descending=True)[: min(MISTAKES_SHOWN, int((predicted != labels).sum()))]
    titles = [f"{labels[i]} → {predicted[i]}" for i in worst.tolist()]
    writer.add_figure("val/mistakes", figures.draw_digits(images[worst], titles), trainer.global_step)
