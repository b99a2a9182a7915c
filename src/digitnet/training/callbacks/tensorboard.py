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

from digitnet.models import DigitClassifier

MISTAKES_SHOWN = 16
OVERLAYS = {
    part: ["Multiline", [f"^train/{key}$", f"^val/{key}$"]] for part, key in {"loss": "loss", "accuracy": "acc"}.items()
}


class TensorBoardReport(L.Callback):
    """The graph, training over validation on one chart, the learning rate, and a batch as the network sees it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams = self.settings  # for hparams.yaml, which the logger writes once, at the start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (writer := writer_of(trainer)) is None or trainer.global_step:  # a resumed run has them already
            return
        # Lightning's log_graph draws it again before the test, when the network may be compiled and cannot be traced.
        assert isinstance(pl_module.example_input_array, torch.Tensor)
        writer.add_graph(pl_module, pl_module.example_input_array.to(pl_module.device))
        writer.add_custom_scalars({"training and validation": OVERLAYS})
        images, _ = next(iter(trainer.train_dataloader))  # type: ignore[arg-type]
        pixels = images[:64].float() / (255 if images.dtype == torch.uint8 else 1)
        writer.add_image("train/images", make_grid(pixels.unsqueeze(1)))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if trainer.global_step % every == 0 and (writer := writer_of(trainer)):
            writer.add_scalar("lr", trainer.optimizers[0].param_groups[0]["lr"], trainer.global_step)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if writer := writer_of(trainer):
            writer.flush()  # a run that is killed and resumed has all points of before


def writer_of(trainer: L.Trainer) -> SummaryWriter | None:
    """None where there is no TensorBoard logger, and on all processes but the first."""
    if not trainer.is_global_zero:
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def add_outcome(trainer: L.Trainer, settings: dict[str, Any], outcome: Mapping[str, Any]) -> None:
    """The run's one record in the HPARAMS tab, which keeps the first it is given and no later one."""
    names = ("val/acc", "val/loss", "test/acc", "test/loss")
    finals = {f"final/{name.replace('/', '_')}": outcome[name] for name in names if name in outcome}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings, finals, step=trainer.global_step)


@torch.inference_mode()
def add_mistakes(trainer: L.Trainer, model: DigitClassifier, images: Tensor, labels: Tensor) -> None:
    if (writer := writer_of(trainer)) is None:
        return
    from digitnet import plots  # imports matplotlib

    logits = torch.cat([model(part.to(model.device)).cpu() for part in torch.split(images, 1000)])
    images, labels, predicted = images.cpu(), labels.cpu(), logits.argmax(dim=1)
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=10, validate_args=False)
    writer.add_figure("val/confusion", plots.plot_confusion(confusion), trainer.global_step)
    losses = F.cross_entropy(logits, labels, reduction="none").masked_fill(predicted == labels, 0)
    worst = losses.argsort(descending=True)[: min(MISTAKES_SHOWN, int((predicted != labels).sum()))]
    mistakes = plots.plot_predictions(images[worst], labels[worst], logits[worst].softmax(dim=1))
    writer.add_figure("val/mistakes", mistakes, trainer.global_step)
