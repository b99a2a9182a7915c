"""Plot data, predictions and training curves; the only module that imports matplotlib."""

import functools
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_MAX_LABELLED_BARS = 12


def render(figure: Figure, dpi: int = 100) -> NDArray[np.uint8]:
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


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture as the content of a PNG file, which a caller can then write as a whole.

    Args:
        picture: The picture `[H, W, 3]`, as `render` returns it.
    """
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="png")
    return content.getvalue()


def plot_predictions(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    columns: int = 6,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Plot images above bar charts of their predicted probabilities.

    The title and the bar of the predicted class are green if the prediction is correct, otherwise red.

    Args:
        images: Images `[N, 28, 28]`.
        labels: Actual classes `[N]`.
        probabilities: Predicted probabilities `[N, C]`.
        columns: Number of images in a row.
        class_names: Names of the classes; None numbers them from 0.

    Returns:
        The figure.
    """
    # One Axes for all, in units of pixels of the images: an Axes for each image takes ten times as long to draw.
    cell_width, cell_height, bar_height = 36, 62, 14
    num_classes = probabilities.shape[-1]
    names = list(class_names or map(str, range(num_classes)))
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
        text = functools.partial(axis.text, ha="center", parse_math=False)
        title, subtitle = f"predicted {names[predicted]}", f"{values.max():.1%}, actual {names[label]}"
        text(left + 14, top - 5.2, title, color=color, fontsize=_fitting_size(title, 10), weight="bold")
        text(left + 14, top - 0.8, subtitle, fontsize=_fitting_size(subtitle, 8))
        axis.imshow(image.numpy(), cmap="gray_r", extent=(left, left + 28, top + 28, top))
        step = 28 / len(values)
        centres, base = left + step * (np.arange(len(values)) + 0.5), top + 29 + bar_height
        colors = [color if number == predicted else "tab:gray" for number in range(len(values))]
        axis.bar(centres, [-bar_height * value for value in values.tolist()], 0.8 * step, bottom=base, color=colors)
        axis.plot([left, left + 28], [base, base], color="tab:gray", linewidth=0.8)
        for name, centre in zip(names, centres, strict=True) if _has_short_names(names) else ():
            text(centre, base + 3.4, name, fontsize=6)
    axis.set(xlim=(-4, columns * cell_width - 4), ylim=(rows * cell_height, 0), aspect="auto")
    return figure


def _label_bars(axis: Axes, names: Sequence[str]) -> None:
    """Name the bars of the classes if their names are short and few; a title names the classes that matter."""
    shown = list(names) if _has_short_names(names) else []
    axis.set_xticks(range(len(shown)), shown, parse_math=False)
    axis.tick_params(labelsize=6)


def _fitting_size(text: str, size: float) -> float:
    """Return the font size, in points, at which a text is not wider than a cell of 100 points."""
    return min(size, 100 / (0.65 * len(text)))  # a bold character is 0.65 of its size wide


def _has_short_names(names: Sequence[str]) -> bool:
    return len(names) <= _MAX_LABELLED_BARS and max(map(len, names)) <= 2


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
    """The probabilities of the classes for the largest digit; None if the picture has no digit."""


def plot_contact_sheet(
    items: Sequence[ContactSheetItem], columns: int = 3, class_names: Sequence[str] | None = None
) -> Figure:
    """Plot pictures, each with the network's input and the predicted probabilities of its largest digit.

    Args:
        items: The pictures.
        columns: Number of pictures in a row.
        class_names: Names of the classes; None numbers them from 0.

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
            bars.bar(range(len(item.probabilities)), item.probabilities, color="tab:blue")
            bars.set(yticks=[], ylim=(0, 1))
            _label_bars(bars, class_names or [str(label) for label in range(len(item.probabilities))])
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
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if metric == "acc":
            axis.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def plot_confusion(counts: Tensor, class_names: Sequence[str] | None = None) -> Figure:
    """Plot a confusion matrix.

    The shade of an error is its fraction of the actual class. Correct predictions are not shaded, or the errors would
    be too pale to see.

    Args:
        counts: Number of images `[C, C]` by actual class (row) and predicted class (column).
        class_names: Names of the classes; None numbers them from 0.

    Returns:
        The figure.
    """
    names = list(class_names or map(str, range(len(counts))))
    side = max(6.0, 0.3 * len(counts))
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    fractions = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).fill_diagonal_(0)
    axis.imshow(fractions.numpy(), cmap="Reds", alpha=0.7)
    fontsize = 11 if len(counts) <= _MAX_LABELLED_BARS else 6
    for actual in range(len(counts)):
        for predicted in range(len(counts)):
            if count := int(counts[actual, predicted]):
                color = "white" if fractions[actual, predicted] > 0.7 * fractions.max() else "black"
                axis.text(predicted, actual, str(count), ha="center", va="center", fontsize=fontsize, color=color)
    axis.set(xlabel="Predicted", ylabel="Actual")
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 2 else {}
    axis.set_xticks(range(len(names)), names, fontsize=fontsize + 1, parse_math=False, **slanted)
    axis.set_yticks(range(len(names)), names, fontsize=fontsize + 1, parse_math=False)
    return figure


def plot_corruptions(examples: Mapping[str, NDArray[np.uint8]], accuracies: Mapping[str, float], kind: str) -> Figure:
    """Plot a few images under each corruption beside the accuracy.

    Args:
        examples: Images `[N, 28, 28]` of each corruption by name, the same N for all.
        accuracies: Accuracy under each, as a fraction. The first one is that of the images as they are.
        kind: Name of the kind of corruptions, for the title.

    Returns:
        The figure.
    """
    names = list(accuracies)
    columns = len(next(iter(examples.values())))
    figure = Figure(figsize=(8, 0.5 * len(names) + 0.7), layout="constrained")
    pictures, bars = figure.subplots(1, 2, width_ratios=(columns, 8))
    strips = [np.concatenate([np.pad(image, 1, constant_values=128) for image in examples[name]], 1) for name in names]
    pictures.imshow(np.concatenate(strips), cmap="gray", vmin=0, vmax=255, aspect="auto")
    pictures.set_yticks([30 * row + 15 for row in range(len(names))], names, parse_math=False)
    pictures.set_xticks([])
    pictures.tick_params(length=0)
    rows, values = range(len(names)), [100 * accuracies[name] for name in names]
    bars.barh(rows, values, color=["tab:gray", *["tab:blue"] * (len(names) - 1)], height=0.6)
    bars.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 118), yticks=[], xlabel="Accuracy, %")
    bars.set_xticks(range(0, 101, 20))
    bars.spines[["top", "right"]].set_visible(False)
    for row, value in zip(rows, values, strict=True):
        bars.text(value + 1, row, f"{value:.2f}", va="center", fontsize=9)
    bars.set_title(f"{kind} corruptions", fontsize=11)
    return figure


def plot_study(
    accuracies: Mapping[int, float], pruned: Mapping[int, float], importances: Mapping[str, float]
) -> Figure:
    """Plot the accuracy of every trial of a sweep, and how important each searched key is.

    Args:
        accuracies: Validation accuracy, as a fraction, of each complete trial by its number.
        pruned: That of the last epoch of each pruned trial.
        importances: Importance of each key, from 0 to 1. If it is empty, only the trials are drawn.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10 if importances else 5.5, 4), layout="constrained")
    history, *others = figure.subplots(1, 2 if importances else 1, squeeze=False)[0]
    numbers = sorted(accuracies)
    best = list(itertools.accumulate((accuracies[number] for number in numbers), max))
    history.plot(numbers, [accuracies[number] for number in numbers], "o", color="C0", markersize=5, label="complete")
    if pruned:
        history.plot([*pruned], [*pruned.values()], "o", color="C0", markersize=5, fillstyle="none", label="pruned")
    history.step(numbers, best, color="C1", where="post", label="best so far")
    history.set(xlabel="Trial", ylabel="Validation accuracy")
    history.xaxis.set_major_locator(MaxNLocator(integer=True))
    history.yaxis.set_major_formatter(PercentFormatter(1))
    history.grid(alpha=0.3)
    history.legend()
    for axes in others:
        keys = sorted(importances, key=lambda name: importances[name])
        bars = axes.barh(keys, [importances[key] for key in keys], height=0.5)
        axes.bar_label(bars, fmt="{:.0%}", padding=4)
        axes.set(xlabel="Importance", xlim=(0, 1.15), xticks=[])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure
