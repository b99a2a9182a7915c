"""Draw the pictures of the README and of the pages in docs/.

python docs/pictures.py                             trains model=cnn and model=mlp (minutes), then draws every picture
python docs/pictures.py --runs logs/CNN logs/MLP    draws the training curves of these run folders instead
python docs/pictures.py --only cost speed           draws these pictures alone

Every figure in a picture comes from a run folder, from benchmarks/results or from a model of the package. The pages
that a browser shows are photographed by docs/screenshots.py.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import ndimage

import digitnet
from digitnet.data import mnist

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "benchmarks" / "results"
BLUE, ORANGE, GREY = "#1971c2", "#e8590c", "#868e96"
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "digitnet",  # the same picture gives the same bytes
}
PUBLISHED = {  # the labels of published classifiers in the picture of the costs
    "pytorch_examples": "pytorch/examples",
    "keras_example": "Keras example",
    "train_mnist_fast_1": "train_mnist_fast, 1 epoch",
    "train_mnist_fast_2": "train_mnist_fast, 2 epochs",
    "deotte": "Deotte",
    "resnet_preact_20": "ResNet-preact-20",
    "ttdoucet": "ttdoucet",
    "simard": "Simard, 784-800-10",
    "hinton": "Hinton, distilled 784-800-800-10",
    "ciresan": "Cireşan",
}
IN_BFLOAT16 = " trainer.precision=bf16-mixed"  # the end of the overrides of runs whose preset does not say it
COST_TICKS = [0.2, 0.3, 0.5, 1, 2]  # % errors
COST_LEGEND = (
    ("digitnet, CNN", ORANGE, "o"),
    ("digitnet, MLP", BLUE, "o"),
    ("a published recipe in digitnet", ORANGE, "s"),
    ("published", GREY, "D"),
)
COST_LABELS = {  # (points to the right and up, alignment) of the labels that others would cover
    ("multiply_adds", "mlp"): ((-8, -3), "right"),
    ("multiply_adds", "mlp_best"): ((-8, -3), "right"),
    ("multiply_adds", "train_mnist_fast, 1 epoch"): ((0, 12), "center"),
    ("multiply_adds", "train_mnist_fast, 2 epochs"): ((-8, 12), "right"),
    ("multiply_adds", "Hinton, distilled 784-800-800-10"): ((-8, -26), "left"),
    ("multiply_adds", "fast"): ((-8, -3), "right"),
    ("multiply_adds", "Simard, 784-800-10"): ((-8, -8), "right"),
    ("multiply_adds", "baseline_cnn_filters"): ((-8, 4), "right"),
    ("multiply_adds", "baseline_cnn_dense64"): ((8, 3), "left"),
    ("multiply_adds", "Keras example"): ((4, -20), "right"),
    ("multiply_adds", "baseline_cnn"): ((8, -12), "left"),
    ("multiply_adds", "cnn_best"): ((-8, -3), "right"),
    ("multiply_adds", "cnn_teacher"): ((-8, -3), "right"),
    ("multiply_adds", "resnet"): ((-2, 8), "center"),
    ("multiply_adds", "Cireşan"): ((-2, -14), "center"),
    ("training_multiply_adds", "train_mnist_fast, 1 epoch"): ((-24, 8), "center"),
    ("training_multiply_adds", "train_mnist_fast, 2 epochs"): ((-48, -15), "center"),
    ("training_multiply_adds", "baseline_cnn_filters"): ((-2, 10), "center"),
    ("training_multiply_adds", "baseline_cnn_dropout"): ((0, -20), "right"),
    ("training_multiply_adds", "baseline_cnn_dense64"): ((8, 3), "left"),
    ("training_multiply_adds", "cnn_teacher"): ((-8, -3), "right"),
    ("training_multiply_adds", "resnet"): ((-2, 8), "center"),
    ("training_multiply_adds", "cnn_best"): ((-8, -8), "right"),
    ("training_multiply_adds", "ResNet-preact-20"): ((-8, -8), "right"),
}
PHOTO_DIGITS = "2026"  # written with the first test images of these digits, each used once
ROOMS = [  # (name, content), a list for each layer, from the top of the picture down
    [
        ("entry points", "train.py  evaluate.py  report.py\npredict.py  export.py  demo.py"),
        ("cli/", "parse, validate overrides,\nexit status"),
    ],
    [
        ("training/", "config → run folder:\nbuild, fit, test, resume"),
    ],
    [
        ("inference/", "picture → digits:\nphotos/, reader, calibration"),
        ("analysis/", "finished runs → report:\nstatistics, html/"),
    ],
    [
        ("checkpoints/", "atomic writes, checksums,\npretrained weights"),
        ("plots.py", "everything drawn\nwith matplotlib"),
    ],
    [
        ("models/", "pixels → logits: CNN, MLP,\nResNet, loss, metrics"),
        ("data/", "MNIST files → batches:\nsplit, loader, augmentation"),
    ],
    [("leaves", "errors.py   signals.py   distributed.py   environment.py")],
]


def read_epochs(run_dir: Path) -> list[dict[str, float]]:
    """Return the rows of a run's metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def draw_training_curves(runs: dict[str, Path]) -> Figure:
    """Draw training and validation error by epoch of each run, on a logarithmic scale."""
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    axis = figure.subplots()
    for (name, run_dir), color in zip(runs.items(), (ORANGE, BLUE), strict=False):
        rows = read_epochs(run_dir)
        epochs = [row["epoch"] + 1 for row in rows]
        for split, style in {"train": "--", "val": "-"}.items():
            errors = [100 * (1 - row[f"{split}/acc"]) for row in rows]
            axis.plot(epochs, errors, style, color=color, linewidth=2 if split == "val" else 1.2)
        test = json.loads((run_dir / "metrics.json").read_text())["test/acc"]
        axis.plot(epochs[-1], 100 * (1 - test), "o", color=color, markersize=8, clip_on=False)
        side, shift = ("left", 10) if epochs[-1] < 20 else ("right", -10)
        axis.annotate(
            f"{name}: test {test:.2%}",
            (epochs[-1], 100 * (1 - test)),
            (shift, -5),
            textcoords="offset points",
            color=color,
            fontweight="bold",
            ha=side,
        )
    axis.plot([], [], "--", color=GREY, linewidth=1.2, label="training (augmented)")
    axis.plot([], [], "-", color=GREY, linewidth=2, label="validation")
    axis.set_yscale("log")
    ticks = [0.5, 1, 2, 5, 10]
    axis.set_yticks(ticks, [f"{tick:g}%" for tick in ticks], minor=False)
    axis.set_yticks([], minor=True)
    axis.set(xlabel="epoch", ylim=(0.35, 25), title="Misclassified images")
    axis.legend()
    return figure


def draw_results() -> Figure:
    """Draw the test accuracy of every run in benchmarks/results/accuracy.json, a row for each preset."""
    sweeps = json.loads((RESULTS / "accuracy.json").read_text())
    sweeps.sort(key=lambda sweep: statistics.mean(run["test/acc"] for run in sweep["runs"]))
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    for row, sweep in enumerate(sweeps):
        accuracies = [100 * run["test/acc"] for run in sweep["runs"]]
        name = " ".join(sweep["overrides"])
        color = GREY if "baseline" in name else BLUE if "mlp" in name else ORANGE
        axis.plot(accuracies, [row] * len(accuracies), "o", color=color, alpha=0.6, markersize=7)
        axis.plot([statistics.mean(accuracies)], [row], "|", color="black", markersize=16, markeredgewidth=2)
    names = [" ".join(sweep["overrides"]).removesuffix(IN_BFLOAT16).replace(" ", "\n") for sweep in sweeps]
    axis.set_yticks(range(len(sweeps)), names, family="monospace", size=9)
    axis.set(xlabel="test accuracy, % (a dot for each seed, a bar for their mean)", xlim=(97.6, 99.85))
    return figure


def draw_speed() -> Figure:
    """Draw the seconds of an epoch with digitnet and with what it replaces."""
    overhead = json.loads((RESULTS / "trainer_overhead.json").read_text())["seconds_per_epoch"]
    keras = json.loads((RESULTS / "keras.json").read_text())["seconds"]
    groups = {
        "MLP 784-128-64-10, batch 128, 60,000 images": {
            "digitnet": overhead["trainer_mlp_plain_without_validation"],
            "Lightning + DataLoader, 2 workers": overhead["dataloader_2_workers"],
            "Lightning + DataLoader": overhead["dataloader_0_workers"],
        },
        "CNN 32-64-128, batch 128, 60,000 images": {
            "digitnet (experiment=baseline_cnn)": keras["baseline_cnn_epoch"],
            "Keras on TensorFlow": keras["keras_cnn_epoch"],
        },
    }
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axis, (title, cases) in zip(figure.subplots(2, 1, height_ratios=(3, 2)), groups.items(), strict=True):
        seconds = [statistics.median(values) for values in cases.values()]
        bars = axis.barh(range(len(cases)), seconds, color=[ORANGE] + [GREY] * (len(cases) - 1))
        axis.bar_label(bars, [f"{value:.1f} s" for value in seconds], padding=4)
        axis.set_yticks(range(len(cases)), list(cases))
        axis.invert_yaxis()
        axis.grid(visible=False)
        axis.set(xticks=[], xlim=(0, 1.12 * max(seconds)))
        axis.spines["bottom"].set_visible(False)
        axis.set_title(title, loc="left", fontsize=11)
    return figure


def read_costs() -> list[dict[str, Any]]:
    """Return cost, test accuracies and look of every classifier whose accuracy is known, in benchmarks/results."""
    costs = json.loads((RESULTS / "network_cost.json").read_text())
    accuracies = {
        " ".join(sweep["overrides"]).removesuffix(IN_BFLOAT16): [run["test/acc"] for run in sweep["runs"]]
        for sweep in json.loads((RESULTS / "accuracy.json").read_text())
    }
    accuracies["experiment=fast"] = json.loads((RESULTS / "keras.json").read_text())["fast_run_test_acc"]
    accuracies["teachers"] = [json.loads((RESULTS / "cnn_best" / "teachers.json").read_text())["test/acc"]]
    ours = [
        cost
        | {
            "label": name.partition("=")[2] or name,
            "errors": [100 * (1 - accuracy) for accuracy in accuracies[name]],
            "color": BLUE if "mlp" in name else ORANGE,
            "marker": "s" if "baseline" in name else "o",
        }
        for name, cost in costs["digitnet"].items()
        if name in accuracies
    ]
    published = [
        cost | {"label": PUBLISHED[name], "errors": [100 * (1 - cost["test_acc"])], "color": GREY, "marker": "D"}
        for name, cost in costs["published"].items()
    ]
    return [*published, *ours]


def draw_cost() -> Figure:
    """Draw test error against the multiply-adds of one image, and against those of the whole training."""
    figure = Figure(figsize=(9, 8.6), layout="constrained")
    axes = figure.subplots(2, 1, sharey=True)
    titles = {
        "multiply_adds": "of one image",
        "training_multiply_adds": "of the whole training, teachers' answers included",
    }
    for axis, (quantity, title) in zip(axes, titles.items(), strict=True):
        points = [point for point in read_costs() if point.get(quantity)]
        for point in points:
            error = statistics.mean(point["errors"])
            spread = statistics.stdev(point["errors"]) if len(point["errors"]) > 1 else 0
            color = point["color"]
            axis.errorbar(point[quantity], error, spread, fmt=point["marker"], color=color, markersize=6, linewidth=1)
            shift, side = COST_LABELS.get((quantity, point["label"]), ((8, -3), "left"))
            axis.annotate(
                point["label"],
                (point[quantity], error),
                shift,
                textcoords="offset points",
                color=color,
                size=9,
                ha=side,
            )
        axis.set(xscale="log", yscale="log", ylim=(0.2, 2.6), xlabel=f"multiply-adds {title}", ylabel="test error")
        axis.margins(x=0.12)
        axis.set_yticks(COST_TICKS, [f"{tick:g}%" for tick in COST_TICKS], minor=False)
        axis.set_yticks([], minor=True)
    for label, color, marker in COST_LEGEND:
        axes[0].plot([], [], marker, color=color, label=label)
    axes[0].legend(loc="upper right")
    return figure


def make_photo(size: tuple[int, int] = (300, 720)) -> Image.Image:
    """Return a picture like a photo of a ruled page: test images as ink, a shadow, and the noise of a camera."""
    height, width = size
    images, labels = mnist.load_mnist("test")
    rng = np.random.default_rng(7)
    ink = np.zeros(size)
    used: dict[int, int] = {}
    for place, digit in enumerate(int(character) for character in PHOTO_DIGITS):
        number = int((labels == digit).nonzero()[used.get(digit, 0)])
        used[digit] = used.get(digit, 0) + 1
        smooth = ndimage.zoom(ndimage.gaussian_filter(images[number].numpy() / 255, 0.4), 6, order=3)
        stroke = np.clip((smooth - 0.35) * 5, 0, 1)
        top, left = 66 + int(rng.integers(-8, 9)), 20 + 172 * place
        ink[top : top + stroke.shape[0], left : left + stroke.shape[1]] = stroke
    rows, columns = np.mgrid[0:height, 0:width]
    light = 0.93 - 0.28 * columns / width - 0.1 * rows / height
    page = light[..., None] * np.array([1.0, 0.985, 0.94])
    page[24::60] *= np.array([0.8, 0.87, 0.97])
    page = page * (1 - ink[..., None]) + ink[..., None] * light[..., None] * np.array([0.1, 0.15, 0.42])
    page = ndimage.rotate(page, 2, reshape=False, mode="nearest", order=1)
    page = ndimage.gaussian_filter(page, (0.7, 0.7, 0)) + rng.normal(0, 0.015, page.shape)
    return Image.fromarray((page.clip(0, 1) * 255).round().astype(np.uint8))


def draw_reading(photo: Path) -> Figure:
    """Draw a photo with a box around each digit, and below it what the network saw and its most probable digits."""
    result = digitnet.read(photo)
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    grid = figure.add_gridspec(2, len(result.digits), height_ratios=(3, 2.6))
    above = figure.add_subplot(grid[0, :])
    above.imshow(Image.open(photo))
    above.set_title(f'{photo.name}: digitnet.read(...).text == "{result.text}"', fontsize=11, loc="left")
    hide(above)
    for column, digit in enumerate(result.digits):
        left, top, right, bottom = digit.box
        above.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=ORANGE, linewidth=2))
        below = figure.add_subplot(grid[1, column])
        below.imshow(digit.image, cmap="gray")
        below.set_xlabel(f"{digit.label}  ({digit.confidence:.1%})", fontsize=12)
        hide(below)
    return figure


def hide(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_architecture() -> str:
    """Return the rooms of src/digitnet as SVG: a band for each layer, imports point down."""
    width, gap, margin = 760, 26, 24
    bands = [46 + 19 * max(1 + content.count("\n") for _, content in rooms) for rooms in ROOMS]
    height = margin * 2 + sum(bands) + (len(ROOMS) - 1) * gap
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Helvetica, sans-serif">',
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff" stroke="#ced4da"/>',
    ]
    colors = ("#fff4e6", "#e7f5ff", "#fff0f6", "#ebfbee", "#f3f0ff", "#f1f3f5")
    top = margin
    for layer, (rooms, color, band) in enumerate(zip(ROOMS, colors, bands, strict=True)):
        room_width = (width - 2 * margin - gap * (len(rooms) - 1)) / len(rooms)
        for column, (name, content) in enumerate(rooms):
            left = margin + column * (room_width + gap)
            lines += draw_room(left, top, room_width, band, color, name, content)
        if layer < len(ROOMS) - 1:
            x, y = width / 2, top + band
            lines.append(f'<path d="M{x} {y + 4} v{gap - 14}" stroke="#495057" stroke-width="2"/>')
            lines.append(f'<path d="M{x - 6} {y + gap - 11} h12 l-6 8 z" fill="#495057"/>')
        top += band + gap
    return "\n".join([*lines, "</svg>", ""])


def draw_room(left: float, top: float, width: float, height: float, color: str, name: str, content: str) -> list[str]:
    """Return a box with a name and lines of text as elements of SVG."""
    box = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    text = f'<text x="{left + width / 2}" text-anchor="middle"'
    return [
        f'<rect {box} rx="8" fill="{color}" stroke="#868e96"/>',
        f'{text} y="{top + 24}" font-size="17" font-weight="bold" fill="#212529">{name}</text>',
        *(
            f'{text} y="{top + 46 + 19 * row}" font-size="14" fill="#495057">{line}</text>'
            for row, line in enumerate(content.split("\n"))
        ),
    ]


def train(name: str, run_dir: Path) -> None:
    """Train a network by its recipe."""
    command = [sys.executable, "-m", "digitnet.train", f"model={name.lower()}", f"hydra.run.dir={run_dir}"]
    subprocess.run(command, check=True)


def main() -> None:
    names = ("training", "results", "cost", "speed", "own-digits", "architecture")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--runs", nargs=2, type=Path, metavar=("CNN", "MLP"), help="run folders of model=cnn and model=mlp"
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="pictures to draw; all by default")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, mpl.rc_context(STYLE):
        runs = dict(zip(("CNN", "MLP"), options.runs or (Path(folder, "cnn"), Path(folder, "mlp")), strict=True))
        if "training" in options.only and not options.runs:
            for name, run_dir in runs.items():
                train(name, run_dir)
        photo = IMAGES / "photo.jpg"
        if "own-digits" in options.only:
            make_photo().save(photo, quality=88)
        if "architecture" in options.only:
            (IMAGES / "architecture.svg").write_text(draw_architecture())
        figures = {
            "training": partial(draw_training_curves, runs),
            "results": draw_results,
            "cost": draw_cost,
            "speed": draw_speed,
            "own-digits": partial(draw_reading, photo),
        }
        for name, draw in figures.items():
            if name in options.only:
                draw().savefig(IMAGES / f"{name}.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
