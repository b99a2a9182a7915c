"""Pictures of data, predictions and training; the only module that draws."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor


def draw_predictions(images: Tensor, labels: Tensor, probabilities: Tensor, columns: int = 8) -> Figure:
    """Each digit with its ten probabilities below: the predicted bar green if it is the actual digit, else red."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(columns * 1.5, rows * 2.6), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (image, label, chances) in enumerate(zip(images, labels.tolist(), probabilities, strict=True)):
        above, below = axes[2 * (number // columns) : 2 * (number // columns) + 2, number % columns]
        predicted = int(chances.argmax())
        above.imshow(image.numpy(), cmap="gray_r")
        above.set_title(f"Predicted {predicted}\nActual {label}", fontsize=8)
        colours = ["tab:grey"] * 10
        colours[predicted] = "tab:green" if predicted == label else "tab:red"
        below.axis("on")
        below.bar(range(10), chances.tolist(), color=colours)
        below.set_xlabel(f"{chances.max():.1%}", fontsize=8)
        below.set(xticks=range(10), yticks=[], ylim=(0, 1))
        below.tick_params(labelsize=6)
    return figure


class Cell(NamedTuple):
    """What a contact sheet shows of a picture: the last two are of its largest digit, if it has one."""

    name: str
    answer: str
    picture: NDArray[np.float32]  # [H, W, 3]
    image: NDArray[np.uint8] | None  # [28, 28]
    probabilities: Sequence[float] | None


def draw_sheet(cells: Sequence[Cell], columns: int = 3) -> Figure:
    """For each picture: itself, the 28 × 28 that the network saw, and the ten probabilities as bars."""
    rows = max(1, -(-len(cells) // columns))
    figure = Figure(figsize=(columns * 4.2, rows * 1.7), layout="constrained")
    axes = figure.subplots(rows, 3 * columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, cell in enumerate(cells):
        start = 3 * (number % columns)
        given, seen, bars = axes[number // columns, start : start + 3]
        given.imshow(cell.picture)
        given.set_title(cell.name[-28:], fontsize=7, parse_math=False)
        seen.set_title(cell.answer, fontsize=9)
        if cell.image is not None and cell.probabilities is not None:
            seen.imshow(cell.image, cmap="gray")
            bars.axis("on")
            bars.bar(range(10), cell.probabilities, color="tab:blue")
            bars.set(xticks=range(10), yticks=[], ylim=(0, 1))
            bars.tick_params(labelsize=6)
    return figure


def draw_curves(rows: Sequence[dict[str, float]]) -> Figure:
    """Loss and accuracy by epoch, training against validation."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, (key, name) in zip(figure.subplots(1, 2), {"loss": "Loss", "acc": "Accuracy"}.items(), strict=True):
        for part, label in {"train": "training", "val": "validation"}.items():
            points = [(row["epoch"] + 1, row[f"{part}/{key}"]) for row in rows if f"{part}/{key}" in row]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axis.set(xlabel="Epoch", ylabel=name)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def draw_confusion(counts: Tensor) -> Figure:
    """`[10, 10]` counts, actual by row; the shade is the share of the row, off the diagonal on a scale of its own."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    shares = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).fill_diagonal_(0)
    axis.imshow(shares.numpy(), cmap="Reds", alpha=0.7)
    for actual in range(10):
        for predicted in range(10):
            if count := int(counts[actual, predicted]):
                axis.text(predicted, actual, str(count), ha="center", va="center", fontsize=8)
    axis.set(xlabel="Predicted", ylabel="Actual", xticks=range(10), yticks=range(10))
    return figure
