"""Writes predictions.npz at the end of a run: what its best epoch predicts for the validation and test images."""

from itertools import islice
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch import Tensor

from digitnet.analysis.predictions import Predictions, make_predictions, save_predictions
from digitnet.data.datamodule import EVAL_BATCH_SIZE
from digitnet.data.loader import DeterministicLoader
from digitnet.models import DigitModule
from digitnet.training.build import Run
from digitnet.training.datasets import collect_images, has_validation_data
from digitnet.training.run_dir import best_checkpoint, predictions_npz

Split = Literal["val", "test"]


@torch.inference_mode()
def predict_validation(run: Run) -> Tensor | None:
    """Return the logits of the validation images that `val/acc` was computed from, `[N, 10]`; None without validation.

    Args:
        run: The run, with the weights of its best epoch in evaluation mode.
    """
    if not has_validation_data(run.data) or run.trainer.limit_val_batches == 0:
        return None
    loader = DeterministicLoader(*collect_images(run.data, "val"), EVAL_BATCH_SIZE)  # the batches of one process
    batches = int(min(sum(run.trainer.num_val_batches) or len(loader), len(loader)))  # trainer.limit_val_batches
    with run.trainer.precision_plugin.val_step_context():
        return torch.cat([run.model(images.to(run.model.device)) for images, _ in islice(loader, batches)])


def write_predictions(run: Run, run_dir: Path, epoch: int, val_logits: Tensor | None) -> None:
    """Write predictions.npz.

    The test images are included if they were scored. A run of several processes leaves them out, because each process
    has scored a part.

    Args:
        run: The run, with the weights of its best epoch.
        run_dir: The run folder.
        epoch: Its best epoch, from 1.
        val_logits: Logits of `predict_validation`.

    Raises:
        RunError: If the file cannot be written.
    """
    splits = {}
    if val_logits is not None:
        splits["val"] = collect_predictions(run.data, "val", val_logits)
    if "test" in run.model.epoch_metrics and run.trainer.world_size == 1:
        splits["test"] = collect_predictions(run.data, "test", torch.cat(run.model.epoch_metrics["test"].logits))
    save_predictions(predictions_npz(run_dir), best_checkpoint(run_dir), epoch, splits)


def collect_predictions(data: L.LightningDataModule, split: Split, logits: Tensor) -> Predictions:
    """Return the predictions for the first images of a split.

    Args:
        data: The data module.
        split: "val" or "test".
        logits: Logits of these images, `[N, 10]`, on any device.
    """
    images, labels = (tensor[: len(logits)].cpu().numpy() for tensor in collect_images(data, split))
    return make_predictions(logits[: len(labels)].softmax(dim=1).cpu().numpy(), labels, images)


@torch.inference_mode()
def predict_split(model: DigitModule, data: L.LightningDataModule, split: Split) -> Predictions:
    """Return the predictions of a model for a whole split, on the CPU and outside a run.

    Args:
        model: The model, in evaluation mode.
        data: The data module.
        split: "val" or "test".
    """
    loader = DeterministicLoader(*collect_images(data, split), EVAL_BATCH_SIZE)
    return collect_predictions(data, split, torch.cat([model(images) for images, _ in loader]))
