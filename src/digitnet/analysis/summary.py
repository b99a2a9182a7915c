"""The figures of a report: for each group of runs, and for each group against the baseline."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitnet.analysis.predictions import Predictions
from digitnet.analysis.runs import Group, mean_probabilities
from digitnet.analysis.statistics import (
    Interval,
    McNemar,
    calibration_error,
    image_difference_interval,
    image_losses,
    mcnemar,
    reliability_bins,
    seed_difference_interval,
    seed_interval,
    wilson_interval,
)

SPLIT_NAMES = {"val": "validation", "test": "test"}
"""The splits in words."""


@dataclass(frozen=True)
class Figure:
    """A quantity that each run of a group has."""

    values: list[float]
    """One value for each run, in the order of the seeds."""
    interval: Interval | None
    """The t interval of the mean over seeds; None for fewer than three runs."""

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """The standard deviation over the runs; None for one run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain data."""
        return {"mean": self.mean, "sd": self.sd, "interval_over_seeds": self.interval, "values": self.values}


@dataclass(frozen=True)
class GroupSummary:
    """The figures of a group on one split."""

    group: Group
    """The group."""
    split: str
    """The split, "val" or "test"."""
    figures: dict[str, Figure]
    """Accuracy, loss, NLL and ECE, as far as they are known; and both accuracies."""
    images: int | None
    """Number of images of the split; None without predictions."""
    image_interval: Interval | None
    """The Wilson interval of the mean accuracy: what another sample of images would change."""
    by_class: list[float]
    """Mean accuracy for each class, empty without predictions."""

    @property
    def accuracy(self) -> Figure:
        """The accuracy on the split."""
        return self.figures["accuracy"]

    @property
    def nll(self) -> Figure:
        """The mean negative log-likelihood: from the predictions, or the loss, which is the same up to rounding."""
        return self.figures.get("nll") or self.figures["loss"]

    def distinct(self, name: str) -> list[Any]:
        """Return the different values that the runs have for an entry of metrics.json, without None."""
        values = [run.metrics.get(name) for run in self.group.runs]
        return [value for index, value in enumerate(values) if value is not None and value not in values[:index]]

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        runs = [
            {"path": run.path, "chosen_by": run.chosen_by, "epochs": run.epochs} | run.metrics
            for run in self.group.runs
        ]
        return {
            "name": self.group.name,
            "n": len(self.group.runs),
            "seeds": self.group.seeds,
            "split": self.split,
            "images": self.images,
            **{name: figure.to_json() for name, figure in self.figures.items()},
            "accuracy_interval_over_images": self.image_interval,
            "accuracy_by_class": self.by_class,
            "runs": runs,
        }


@dataclass(frozen=True)
class Disagreement:
    """An image that the networks of only one of two groups classify correctly."""

    position: int
    """Position in the split."""
    label: int
    """Actual class."""
    predicted: int
    """What the other group predicts."""
    image: NDArray[np.uint8]
    """The image `[H, W]`."""


@dataclass(frozen=True)
class Comparison:
    """A group against the baseline."""

    baseline: Group
    """The baseline."""
    other: Group
    """The other group."""
    difference: float
    """Mean accuracy of the other group minus that of the baseline, over `pairs` if the seeds are paired."""
    pairs: list[int]
    """The seeds that both groups have, if the difference is paired by them; otherwise empty."""
    seed_interval: Interval | None
    """The t interval of the difference over seeds: of the paired differences, or Welch's."""
    image_interval: Interval | None
    """The bootstrap interval of the difference over images; None without predictions for the same images."""
    ensemble_size: int
    """Number of networks in each of the two ensembles that `test` compares."""
    test: McNemar | None
    """McNemar's test: `only_first` counts images that only the baseline classifies correctly."""
    tests_by_seed: dict[int, McNemar]
    """The same test for the two networks of each common seed."""
    only_baseline: list[Disagreement]
    """The images that only the baseline's ensemble classifies correctly."""
    only_other: list[Disagreement]
    """The images that only the other ensemble classifies correctly."""

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        positions = {
            name: [each.position for each in images]
            for name, images in {"only_baseline": self.only_baseline, "only_other": self.only_other}.items()
        }
        return {
            "baseline": self.baseline.name,
            "group": self.other.name,
            "accuracy_difference": self.difference,
            "paired_seeds": self.pairs,
            "interval_over_seeds": self.seed_interval,
            "interval_over_images": self.image_interval,
            "mcnemar": self.test._asdict() | {"networks": self.ensemble_size} if self.test else None,
            "mcnemar_by_seed": {str(seed): test._asdict() for seed, test in self.tests_by_seed.items()},
            "correct_in_one_only": positions,
        }


def summarize(group: Group, split: str) -> GroupSummary:
    """Compute the figures of a group.

    Args:
        group: The group.
        split: The split, "val" or "test".
    """
    predictions = group.predictions(split)
    values = {"accuracy": group.values(f"{split}/acc"), "loss": group.values(f"{split}/loss")}
    if predictions:
        values["nll"] = [float(image_losses(each.probabilities, each.labels).mean()) for each in predictions]
        values["ece"] = [calibration_error(reliability_bins(each.probabilities, each.labels)) for each in predictions]
    values |= {"val_accuracy": group.values("val/acc"), "test_accuracy": group.values("test/acc")}
    complete = {name: each for name, each in values.items() if len(each) == len(group.runs)}
    figures = {name: Figure(each, _interval(name, each)) for name, each in complete.items()}
    images = len(predictions[0].labels) if predictions else None
    return GroupSummary(
        group=group,
        split=split,
        figures=figures,
        images=images,
        image_interval=wilson_interval(figures["accuracy"].mean, images) if images else None,
        by_class=_accuracy_by_class(predictions),
    )


def _interval(name: str, values: list[float]) -> Interval | None:
    """Return the interval over seeds, within the range of the quantity."""
    found = seed_interval(values)
    highest = 1.0 if name == "ece" or name.endswith("accuracy") else float("inf")
    return found and Interval(max(found.low, 0.0), min(found.high, highest))


def _accuracy_by_class(predictions: Sequence[Predictions]) -> list[float]:
    if not predictions:
        return []
    labels, correct = predictions[0].labels, correct_fractions(predictions)
    classes = predictions[0].probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    totals = np.bincount(labels, weights=correct, minlength=classes)
    return [float(total / count) if count else float("nan") for total, count in zip(totals, counts, strict=True)]


def correct_fractions(predictions: Sequence[Predictions]) -> NDArray[np.float64]:
    """Return the fraction of networks that classify each image correctly, `[N]`."""
    mean: NDArray[np.float64] = np.mean([each.correct for each in predictions], axis=0, dtype=np.float64)
    return mean


def compare(baseline: Group, other: Group, split: str) -> Comparison:
    """Compare a group with the baseline.

    Args:
        baseline: The baseline.
        other: The other group.
        split: The split, "val" or "test".
    """
    runs, other_runs = baseline.by_seed(), other.by_seed()
    common = sorted(runs.keys() & other_runs.keys())
    pairs = common if len(common) == min(len(runs), len(other_runs)) else []
    if pairs:
        name = f"{split}/acc"
        differences = [other_runs[seed].metrics[name] - runs[seed].metrics[name] for seed in pairs]
        difference, interval = statistics.fmean(differences), seed_interval(differences)
    else:
        first, second = other.values(f"{split}/acc"), baseline.values(f"{split}/acc")
        difference = statistics.fmean(first) - statistics.fmean(second)
        interval = seed_difference_interval(first, second)
    return Comparison(
        baseline, other, difference, pairs, interval, **_compare_images(baseline, other, split, common, pairs)
    )


def _compare_images(baseline: Group, other: Group, split: str, common: list[int], pairs: list[int]) -> dict[str, Any]:
    """Return the parts of a comparison that need predictions for the same images."""
    first, second = (
        [group.by_seed()[seed].predictions.get(split) for seed in pairs or group.seeds] for group in (baseline, other)
    )
    known = [each for each in (*first, *second) if each is not None]
    if len(known) < len(first) + len(second) or len({each.images_sha256 for each in known}) > 1:
        nothing: dict[str, Any] = {"image_interval": None, "ensemble_size": 0, "test": None, "tests_by_seed": {}}
        return nothing | {"only_baseline": [], "only_other": []}
    a, b = known[: len(first)], known[len(first) :]
    size = min(len(a), len(b))  # an ensemble of more networks would be better for that alone
    by_seed = {
        seed: mcnemar(*(group.by_seed()[seed].predictions[split].correct for group in (baseline, other)))
        for seed in common
    }
    guesses = [mean_probabilities(each[:size]).argmax(axis=1) for each in (a, b)]
    labels = a[0].labels
    return {
        "image_interval": image_difference_interval(correct_fractions(b), correct_fractions(a)),
        "ensemble_size": size,
        "test": mcnemar(guesses[0] == labels, guesses[1] == labels),
        "tests_by_seed": by_seed,
        "only_baseline": _disagreements(guesses[0], guesses[1], labels, b),
        "only_other": _disagreements(guesses[1], guesses[0], labels, a),
    }


def _disagreements(
    right: NDArray[np.int64], wrong: NDArray[np.int64], labels: NDArray[np.int64], losers: Sequence[Predictions]
) -> list[Disagreement]:
    """Return the images where `right` is correct and `wrong`, a prediction of `losers`, is not."""
    images = misclassified_images(losers)
    return [
        Disagreement(int(index), int(labels[index]), int(wrong[index]), images[int(index)])
        for index in np.flatnonzero((right == labels) & (wrong != labels))
        if int(index) in images
    ]


def misclassified_images(predictions: Sequence[Predictions]) -> dict[int, NDArray[np.uint8]]:
    """Return the images that any of the networks misclassifies, by their position in the split."""
    return {
        int(position): image
        for each in predictions
        for position, image in zip(each.wrong, each.wrong_images, strict=True)
    }
