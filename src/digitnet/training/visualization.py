"""Draws the plots of a finished run, into its folder and into TensorBoard."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchvision.utils import make_grid

from digitnet.checkpoints.atomic import atomic_write
from digitnet.models import DigitModule
from digitnet.training.build import Run
from digitnet.training.callbacks.tensorboard import summary_writer
from digitnet.training.datasets import collect_images

_DPI = 120
_MISTAKES_SHOWN = 12
_SAMPLES_SHOWN = 12
_EMBEDDED_IMAGES = 1000
_EMBEDDING_SIZE = 32  # principal components; the projector reads them from a text file, which would have megabytes


def visualize_run(run: Run, run_dir: Path, val_logits: Tensor | None) -> None:
    """Write the plots of a run as PNG files, and log them and more to TensorBoard.

    The predictions are those on the validation images. A run without validation has only its curves.

    Args:
        run: The run, with the weights of its best epoch in evaluation mode.
        run_dir: The run folder.
        val_logits: What the model predicts for the first N validation images, `[N, C]`; None without validation.
    """
    from digitnet.plots import plot_curves, render, to_png  # imports matplotlib

    trainer, model, names = run.trainer, run.model, run.model.class_names
    figures = {"curves": plot_curves(run.epoch_log.history)}
    writer = summary_writer(trainer)
    if val_logits is not None:
        logits = val_logits.cpu()
        images, labels = (tensor[: len(logits)].cpu() for tensor in collect_images(run.data, "val"))
        figures |= _draw_predictions(images, labels, logits, names)
        if writer:
            _log_curves(writer, labels, logits, names, trainer.global_step)
            _log_embedding(writer, model, images[:_EMBEDDED_IMAGES], labels, logits)
    for name, figure in figures.items():
        picture = render(figure, _DPI)
        atomic_write(run_dir / f"{name}.png", to_png(picture))
        if writer and name in ("confusion", "mistakes"):
            writer.add_image(f"val/{name}", picture, trainer.global_step, dataformats="HWC")
    if writer and (filters := first_layer_filters(model)) is not None:
        writer.add_image("weights/first_layer", filters, trainer.global_step)


def _draw_predictions(images: Tensor, labels: Tensor, logits: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Draw the confusion matrix, the misclassified images with the highest loss, and the first images."""
    from digitnet.plots import plot_confusion, plot_predictions  # imports matplotlib

    predicted, probabilities = logits.argmax(dim=1), logits.softmax(dim=1)
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=len(names), validate_args=False)
    losses = F.cross_entropy(logits, labels, reduction="none").masked_fill(predicted == labels, 0)
    misclassified = int((predicted != labels).sum())
    worst = losses.argsort(descending=True)[: min(_MISTAKES_SHOWN, misclassified)]
    first = torch.arange(min(_SAMPLES_SHOWN, len(images)))
    return {
        "confusion": plot_confusion(confusion, names),
        "mistakes": plot_predictions(images[worst], labels[worst], probabilities[worst], class_names=names),
        "samples": plot_predictions(images[first], labels[first], probabilities[first], class_names=names),
    }


def _log_curves(writer: SummaryWriter, labels: Tensor, logits: Tensor, names: Sequence[str], step: int) -> None:
    """Log the precision-recall curve of each class."""
    probabilities = logits.softmax(dim=1)
    for number, name in enumerate(names):
        writer.add_pr_curve(f"val_precision_recall/{name}", labels == number, probabilities[:, number], step)


def _log_embedding(writer: SummaryWriter, model: DigitModule, images: Tensor, labels: Tensor, logits: Tensor) -> None:
    """Log images in the space of the last layer's input, reduced to its principal components, for the projector."""
    features = _last_layer_input(model, images)
    centred = features.float() - features.float().mean(dim=0)
    rank = min(_EMBEDDING_SIZE, *centred.shape)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    pairs = torch.stack([labels, logits.argmax(dim=1)], dim=1)[: len(images)]
    names = model.class_names
    directory = Path(writer.log_dir)
    shutil.rmtree(directory / "00000", ignore_errors=True)  # of an earlier end of this run
    (directory / "projector_config.pbtxt").unlink(missing_ok=True)
    writer.add_embedding(
        (centred @ components[:rank].T).round(decimals=3),
        metadata=[[names[actual], names[predicted]] for actual, predicted in pairs.tolist()],
        metadata_header=["actual", "predicted"],
        label_img=images.unsqueeze(1).float() / 255,
        tag="validation",
    )


@torch.inference_mode()
def _last_layer_input(model: DigitModule, images: Tensor) -> Tensor:
    """Return the input `[N, F]` of the last linear layer, or the logits of a network that has none."""
    features: list[Tensor] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        logits: Tensor = model(images.to(model.device)).cpu()
        return logits
    with linear[-1].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].cpu())):
        model(images.to(model.device))
    return features[0]


def first_layer_filters(model: nn.Module) -> Tensor | None:
    """Return the filters of the first layer as one picture.

    Args:
        model: A network whose first layer is a convolution of one channel or a linear layer of 784 inputs.

    Returns:
        The filters side by side, `[3, H, W]` from 0 (lowest weight of the filter) to 1 (highest weight). None for a
        network that starts with another layer.
    """
    layers = (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    layer = next(layers, None)
    if isinstance(layer, nn.Conv2d) and layer.in_channels == 1:
        filters = layer.weight.detach().cpu()
    elif isinstance(layer, nn.Linear) and layer.in_features == 784:
        filters = layer.weight.detach().cpu().view(-1, 1, 28, 28)
    else:
        return None
    enlarged = filters.repeat_interleave(max(1, 40 // filters.shape[-1]), dim=2)
    enlarged = enlarged.repeat_interleave(max(1, 40 // filters.shape[-1]), dim=3)
    columns = math.isqrt(len(filters) - 1) + 1  # a square, for TensorBoard scales a picture to the width of its card
    picture: Tensor = make_grid(enlarged, nrow=columns, normalize=True, scale_each=True, pad_value=1)
    return picture
