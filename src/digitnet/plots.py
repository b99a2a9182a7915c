"""Plot data, predictions and training curves; the only module that imports matplotlib."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor


def render(figure: Figure, dpi: int = 120) -> NDArray[np.uint8]:
    """Draw a figure.

    Args:
        figure: The figure.
        dpi: Resolution in pixels per inch.

    Returns:
        The picture `[H, W, 3]`.
    """
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3]
    return picture


def plot_predictions(images: Tensor, labels: Tensor, probabilities: Tensor, columns: int = 6) -> Figure:
    """Plot images above bar charts of their predicted probabilities.

    The title and the bar of the predicted class are green if the prediction is correct, otherwise red.

    Args:
        images: Images `[N, 28, 28]`.
        labels: Actual classes `[N]`.
        probabilities: Predicted probabilities `[N, C]`.
        columns: Number of images in a row.

    Returns:
        The figure.
    """
    # One Axes for all, in units of pixels of the images: an Axes for each image takes ten times as long to draw.
    cell_width, cell_height, bar_height = 36, 62, 14
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(columns * 1.4, rows * 1.4 * cell_height / cell_width))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-4, columns * cell_width - 4), ylim=(rows * cell_height, 0))
    axis.axis("off")
    for index, (image, label, values) in enumerate(zip(images, labels.tolist(), probabilities, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * cell_width, row * cell_height + 11
        predicted = int(values.argmax())
        color = "tab:green" if predicted == label else "tab:red"
        axis.text(left + 14, top - 5.2, f"predicted {predicted}", ha="center", color=color, fontsize=10, weight="bold")
        axis.text(left + 14, top - 0.8, f"actual {label}, {values.max():.1%}", ha="center", fontsize=8)
        axis.imshow(image.numpy(), cmap="gray_r", extent=(left, left + 28, top + 28, top))
        step = 28 / len(values)
        centres, base = left + step * (np.arange(len(values)) + 0.5), top + 29 + bar_height
        colors = [color if number == predicted else "tab:gray" for number in range(len(values))]
        axis.bar(centres, [-bar_height * value for value in values.tolist()], 0.8 * step, bottom=base, color=colors)
        axis.plot([left, left + 28], [base, base], color="tab:gray", linewidth=0.8)
        for number, centre in enumerate(centres):
            axis.text(centre, base + 3.4, str(number), ha="center", fontsize=6)
    axis.set(xlim=(-4, columns * cell_width - 4), ylim=(rows * cell_height, 0), aspect="auto")
    return figure


class ContactSheetItem(NamedTuple):
    """One picture of a contact sheet."""

    name: str
    """Title of the picture."""

    summary: str
    """The digits that were read in it."""

    picture: NDArray[np.float32]
    """The picture `[H, W, 3]`, from 0 to 1."""

    image: NDArray[np.uint8] | None
    """The network's input `[28, 28]` for the largest digit; None if the picture has no digit."""

    probabilities: Sequence[float] | None
    """The ten probabilities for the largest digit; None if the picture has no digit."""


def plot_contact_sheet(items: Sequence[ContactSheetItem], columns: int = 3) -> Figure:
    """Plot pictures, each with the network's input and the predicted probabilities of its largest digit.

    Args:
        items: The pictures.
        columns: Number of pictures in a row.

    Returns:
        The figure.
    """
    rows = max(1, -(-len(items) // columns))
    figure = Figure(figsize=(columns * 4.2, rows * 1.7), layout="constrained")
    axes = figure.subplots(rows, 3 * columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for index, item in enumerate(items):
        row, column = divmod(index, columns)
        picture_axis, input_axis, bars = axes[row, 3 * column : 3 * column + 3]
        picture_axis.imshow(item.picture)
        picture_axis.set_title(item.name[-28:], fontsize=7, parse_math=False)
        input_axis.set_title(item.summary, fontsize=9)
        if item.image is not None and item.probabilities is not None:
            input_axis.imshow(item.image, cmap="gray")
            bars.axis("on")
            bars.bar(range(10), item.probabilities, color="tab:blue")
            bars.set(xticks=range(10), yticks=[], ylim=(0, 1))
            bars.tick_params(labelsize=6)
    return figure


def plot_curves(history: Sequence[dict[str, float]]) -> Figure:
    """Plot the loss and the accuracy on the training and the validation images by epoch.

    Args:
        history: One record per epoch: `epoch`, counted from 0, and any of `train/loss`, `train/acc`, `val/loss` and
            `val/acc`.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, (metric, title) in zip(figure.subplots(1, 2), {"loss": "Loss", "acc": "Accuracy"}.items(), strict=True):
        for stage, label in {"train": "training", "val": "validation"}.items():
            key = f"{stage}/{metric}"
            points = [(record["epoch"] + 1, record[key]) for record in history if key in record]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axis.set(xlabel="Epoch", ylabel=title)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def plot_confusion(counts: Tensor) -> Figure:
    """Plot a confusion matrix.

    The shade of an error is its fraction of the actual class. Correct predictions are not shaded, or the errors would
    be too pale to see.

    Args:
        counts: Number of images `[10, 10]` by actual class (row) and predicted class (column).

    Returns:
        The figure.
    """
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    fractions = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).fill_diagonal_(0)
    axis.imshow(fractions.numpy(), cmap="Reds", alpha=0.7)
    for actual in range(10):
        for predicted in range(10):
            if count := int(counts[actual, predicted]):
                axis.text(predicted, actual, str(count), ha="center", va="center", fontsize=11)
    axis.set(xlabel="Predicted", ylabel="Actual", xticks=range(10), yticks=range(10))
    return figure
