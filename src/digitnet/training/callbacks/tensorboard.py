"""Logs the texts, graph, charts and images that TensorBoard shows while a run trains."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import hparams as hparams_summaries
from torch.utils.tensorboard.writer import SummaryWriter
from torchvision.utils import make_grid

from digitnet.models import DigitModule

_IMAGES_SHOWN = 64
_FIRST_COLUMNS = ("lr", "batch_size", "model", "optimizer", "max_epochs")  # of the HPARAMS tab
_BY_CLASS = "val_acc_by_class"
# Charts of the custom scalars tab, which have several curves each.
_SCALAR_LAYOUT = {
    "training and validation": {
        title: ["Multiline", [f"^train/{metric}$", f"^val/{metric}$"]]
        for title, metric in {"loss": "loss", "accuracy": "acc"}.items()
    },
    "validation accuracy by class": {"accuracy by class": ["Multiline", [f"^{_BY_CLASS}/"]]},
}


class TensorBoardReport(L.Callback):
    """Logs the settings, the graph, a batch of training images, and the curves that Lightning does not log.

    These are the learning rate at each logged step and, for each epoch, the throughput and the accuracy by class.

    Args:
        hparams: The settings of the run, for `hparams.yaml`.
        texts: Markdown by name for the Text tab, such as the command of the run.
    """

    def __init__(self, hparams: dict[str, Any], texts: Mapping[str, str]) -> None:
        self.hparams = hparams
        self.texts = texts
        self._images = 0
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the settings to the logger, which writes `hparams.yaml` once, at the start."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams = self.hparams

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log what does not change during the run; a resumed run has logged it before."""
        self._started = time.perf_counter()
        if (writer := summary_writer(trainer)) is None or trainer.global_step:
            return
        # Lightning's log_graph would draw the graph again before the test, when a compiled network cannot be traced.
        assert isinstance(pl_module.example_input_array, torch.Tensor)
        writer.add_graph(pl_module, pl_module.example_input_array.to(pl_module.device))
        writer.add_custom_scalars(_SCALAR_LAYOUT)
        for name, text in self.texts.items():
            writer.add_text(name, text)
        images, _ = next(iter(trainer.train_dataloader))  # type: ignore[arg-type]
        pixels = images[:_IMAGES_SHOWN].float() / (255 if images.dtype == torch.uint8 else 1)
        writer.add_image("train/samples", make_grid(pixels.reshape(-1, 1, 28, 28)))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the measurement of the throughput."""
        self._images, self._started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and log the learning rate under a name that does not depend on the optimizer."""
        self._images += len(batch[1])
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and trainer.global_step % every == 0 and (writer := summary_writer(trainer)):
            writer.add_scalar("train/lr", trainer.optimizers[0].param_groups[0]["lr"], trainer.global_step)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the accuracy on the validation images of each class."""
        if trainer.sanity_checking or not any(isinstance(each, TensorBoardLogger) for each in trainer.loggers):
            return
        assert isinstance(pl_module, DigitModule)
        accuracies = pl_module.compute_accuracy_by_class("val")  # in all processes, whose counts are added
        step = max(trainer.global_step - 1, 0)  # where Lightning logs val/acc: it counts steps from 0
        if writer := summary_writer(trainer):
            for name, accuracy in accuracies.items():
                writer.add_scalar(f"{_BY_CLASS}/{name}", accuracy, step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the throughput in images per second, validation included."""
        if writer := summary_writer(trainer):
            per_second = self._images * trainer.world_size / (time.perf_counter() - self._started)
            writer.add_scalar("train/throughput", per_second, trainer.global_step)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write all events to disk, so that a run that is killed and resumed has every point up to its checkpoint."""
        if writer := summary_writer(trainer):
            writer.flush()


def summary_writer(trainer: L.Trainer) -> SummaryWriter | None:
    """Return the writer of TensorBoard events.

    Args:
        trainer: The Trainer of the run.

    Returns:
        The writer, or None without a TensorBoard logger and in all processes but the first.
    """
    if not trainer.is_global_zero:
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def log_hparams(trainer: L.Trainer, hparams: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Log the settings and the result of a finished run for the HPARAMS tab, which keeps only the first such record.

    Args:
        trainer: The Trainer of the run.
        hparams: The settings.
        result: The result, as in metrics.json.
    """
    if (writer := summary_writer(trainer)) is None:
        return
    names = ("test/acc", "val/acc", "test/loss", "val/loss")
    finals = {f"whole_run/{name.replace('/', '_')}": result[name] for name in names if name in result}
    for name, value in finals.items():
        writer.add_scalar(name, value, trainer.global_step)
    summaries = hparams_summaries(_flatten(hparams), finals)  # type: ignore[no-untyped-call]
    _mark_first_columns(summaries[0])
    for summary in summaries:
        writer._get_file_writer().add_summary(summary, trainer.global_step)  # type: ignore[no-untyped-call]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under names such as "augmentation/rotation", with numbers and texts as values."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _mark_first_columns(summary: Any) -> None:
    """Move the columns of the recipe to the front. TensorBoard sorts by this mark and ticks five columns."""
    plugin_data = summary.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in _FIRST_COLUMNS
    plugin_data.content = content.SerializeToString()
