"""Assesses a model on the test images: intervals, calibration, classes, mistakes, prediction sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_precision, multiclass_recall

from digitnet.analysis.conformal import LEVELS, ConformalResult, conformal_threshold, evaluate_sets
from digitnet.analysis.statistics import Interval, brier_score, calibration_error, reliability_bins, wilson_interval
from digitnet.inference.calibration import fit_calibration

_MISTAKES_LISTED = 10


class ProbabilityScores(NamedTuple):
    """How good predicted probabilities are; lower is better."""

    nll: float
    """Mean negative log-likelihood of the actual class."""
    brier: float
    """Brier score, from 0 to 2."""
    ece: float
    """Expected calibration error in 15 bins, from 0 to 1."""


class Scaling(NamedTuple):
    """A temperature, and where it is from."""

    temperature: float
    """Divisor of the logits."""
    source: str
    """What it was fitted on, in words."""
    scores: ProbabilityScores
    """The scores of the test images with the temperature."""


class ClassScore(NamedTuple):
    """How well one class is recognized."""

    name: str
    """Name of the class."""
    images: int
    """Number of its test images."""
    precision: float
    """Fraction of the images predicted as this class that are of it; 0 if there are none."""
    recall: float
    """Fraction of the images of this class that are predicted as it."""
    f1: float
    """Harmonic mean of both."""


class Mistake(NamedTuple):
    """A misclassified test image."""

    position: int
    """Position in the test set, from 0."""
    actual: str
    """Name of the actual class."""
    predicted: str
    """Name of the predicted class."""
    confidence: float
    """Probability of the predicted class."""


@dataclass(frozen=True)
class HeldOut:
    """What a model predicts for validation images that it was not trained on."""

    logits: Tensor
    """Logits `[N, C]`."""
    labels: Tensor
    """Their classes `[N]`."""


@dataclass(frozen=True)
class Assessment:
    """What the accuracy of a model on test images is worth."""

    accuracy: float
    """Fraction of correct images."""
    interval: Interval
    """Wilson's 95 % interval of the accuracy, over samples of images."""
    scores: ProbabilityScores
    """The scores of the probabilities as they are."""
    scaling: Scaling | None
    """The temperature and its scores; None without images to fit it on."""
    conformal: dict[float, ConformalResult] | None
    """The prediction sets by level; None without images to calibrate them on."""
    unavailable: str | None
    """Why there are no images to calibrate on."""
    classes: list[ClassScore]
    """The scores by class."""
    mistakes: list[Mistake]
    """The ten misclassified images with the highest loss."""
    disputed: int
    """Number of test images whose label is known to be disputed."""
    undisputed_accuracy: float | None
    """Accuracy without these; None if there are none."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data, to follow `test/acc` and `test/loss`."""
        scaling, sets = self.scaling, self.conformal
        by_class = {each.name: each._asdict() for each in self.classes}
        return {
            "test/acc_interval": list(self.interval),
            "test/acc_undisputed": self.undisputed_accuracy,
            "disputed_labels": self.disputed,
            "test/brier": self.scores.brier,
            "test/ece": self.scores.ece,
            "temperature": scaling and scaling.temperature,
            "temperature_from": scaling and scaling.source,
            "test/loss_with_temperature": scaling and scaling.scores.nll,
            "test/brier_with_temperature": scaling and scaling.scores.brier,
            "test/ece_with_temperature": scaling and scaling.scores.ece,
            "conformal": sets and {f"{level:.0%}": each._asdict() for level, each in sets.items()},
            "unavailable": self.unavailable,
            "by_class": {name: {k: v for k, v in each.items() if k != "name"} for name, each in by_class.items()},
            "mistakes": [each._asdict() for each in self.mistakes],
        }


def assess(
    logits: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    held_out: HeldOut | str,
    known_temperature: float | None = None,
    disputed: Collection[int] = (),
) -> Assessment:
    """Tell what the accuracy of a model is worth.

    Args:
        logits: Logits `[N, C]` of the test images.
        labels: Their classes `[N]`.
        class_names: Names of the C classes.
        held_out: What the model predicts for images that it was not trained on and that are no test images, to fit the
            temperature and the prediction sets on; or a sentence that says why there are none.
        known_temperature: A temperature that was fitted before, for a model without such images.
        disputed: Positions of test images whose labels are disputed.

    Returns:
        The assessment.
    """
    logits, labels = logits.cpu().double(), labels.cpu()
    probabilities, classes = logits.softmax(dim=1).numpy(), labels.numpy()
    correct = probabilities.argmax(axis=1) == classes
    undisputed = np.delete(correct, sorted(disputed))
    sets = None
    if isinstance(held_out, HeldOut):
        sample, sample_classes = held_out.logits.cpu().double().softmax(dim=1).numpy(), held_out.labels.cpu().numpy()
        thresholds = {level: conformal_threshold(sample, sample_classes, level) for level in LEVELS}
        sets = {level: evaluate_sets(probabilities, classes, value) for level, value in thresholds.items()}
    accuracy = float(correct.mean())
    return Assessment(
        accuracy=accuracy,
        interval=wilson_interval(accuracy, len(correct)),
        scores=score_probabilities(logits, labels),
        scaling=_scale(logits, labels, held_out, known_temperature),
        conformal=sets,
        unavailable=held_out if isinstance(held_out, str) else None,
        classes=_score_classes(logits, labels, class_names),
        mistakes=_worst_mistakes(logits, labels, class_names),
        disputed=len(disputed),
        undisputed_accuracy=float(undisputed.mean()) if disputed else None,
    )


def score_probabilities(logits: Tensor, labels: Tensor) -> ProbabilityScores:
    """Return the scores of the probabilities that logits stand for.

    Args:
        logits: Logits `[N, C]` on the CPU.
        labels: The actual classes `[N]`.
    """
    probabilities, classes = logits.softmax(dim=1).numpy(), labels.numpy()
    ece = calibration_error(reliability_bins(probabilities, classes))
    return ProbabilityScores(float(F.cross_entropy(logits, labels)), brier_score(probabilities, classes), ece)


def _scale(logits: Tensor, labels: Tensor, held_out: HeldOut | str, known: float | None) -> Scaling | None:
    """Score the test images with the temperature that is best for the held-out images, or with a known one."""
    if isinstance(held_out, HeldOut):
        temperature = fit_calibration(held_out.logits.cpu().float(), held_out.labels.cpu()).temperature
        source = f"{len(held_out.labels):,} validation images"
    elif known is not None:
        temperature, source = known, "the model's card"
    else:
        return None
    return Scaling(temperature, source, score_probabilities(logits / temperature, labels))


def _score_classes(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> list[ClassScore]:
    options: dict[str, Any] = {"num_classes": len(class_names), "average": None, "validate_args": False}
    counts = labels.bincount(minlength=len(class_names)).tolist()
    metrics = (multiclass_precision, multiclass_recall, multiclass_f1_score)
    values = torch.stack([metric(logits, labels, **options) for metric in metrics]).T.tolist()
    return [ClassScore(name, images, *each) for name, images, each in zip(class_names, counts, values, strict=True)]


def _worst_mistakes(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> list[Mistake]:
    positions = worst_mistakes(logits, labels)[:_MISTAKES_LISTED].tolist()
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    return [
        Mistake(each, class_names[int(labels[each])], class_names[int(predicted[each])], float(confidence[each]))
        for each in positions
    ]


def worst_mistakes(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the positions of the misclassified images, that with the highest loss first, `[M]`.

    Args:
        logits: Logits `[N, C]`.
        labels: The actual classes `[N]`.
    """
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten()
    losses = F.cross_entropy(logits[wrong], labels[wrong], reduction="none")
    return wrong[losses.argsort(descending=True, stable=True)]
