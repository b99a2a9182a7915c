"""Intervals, tests and calibration measures, on NumPy arrays.

All intervals are at 95 %. Two kinds of chance are kept apart: the seed (t intervals, from the spread of runs), and
which images happen to be in the validation or test set (Wilson and bootstrap intervals, from the images).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
"""Confidence level of every interval."""

MIN_SEEDS = 3
"""Fewest runs from which an interval over seeds is computed: from two it would be 13 standard deviations wide."""

_BINS = 15  # of the calibration error: the number in Guo et al., 2017
_RESAMPLES = 10_000

Floats = NDArray[np.floating[Any]]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    """Lower limit."""
    high: float
    """Upper limit."""


class McNemar(NamedTuple):
    """The exact McNemar test of two classifiers on the same images."""

    only_first: int
    """Number of images that only the first classifies correctly."""
    only_second: int
    """Number of images that only the second classifies correctly."""
    p_value: float
    """Probability of a difference at least this large if both err equally often (two-sided, binomial)."""


class Bin(NamedTuple):
    """The predictions whose confidence is in one range."""

    size: int
    """Number of predictions."""
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """Fraction of them that is correct."""


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Return the t interval of the mean over all possible seeds, or None for fewer than `MIN_SEEDS` values.

    Args:
        values: One value for each seed.
    """
    n = len(values)
    if n < MIN_SEEDS:
        return None
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    mean = float(np.mean(values))
    return Interval(mean - half, mean + half)


def seed_difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return Welch's t interval of the difference of two means, or None for fewer than `MIN_SEEDS` values in either.

    Args:
        first: One value for each seed of the first group.
        second: One value for each seed of the second group, which need not be the same seeds.
    """
    if min(len(first), len(second)) < MIN_SEEDS:
        return None
    difference = float(np.mean(first) - np.mean(second))
    if np.ptp(first) == np.ptp(second) == 0:
        return Interval(difference, difference)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(float(found.low), float(found.high))


def wilson_interval(accuracy: float, images: int) -> Interval:
    """Return the Wilson interval of an accuracy that was measured on a sample of images.

    Args:
        accuracy: The fraction of images that is correct. A mean of several networks is rounded to whole images.
        images: Number of images.
    """
    found = stats.binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def image_difference_interval(first: Floats, second: Floats) -> Interval:
    """Return the bootstrap interval of a difference of accuracies over samples of images, percentile method.

    Args:
        first: For each image, the fraction of the first group's networks that is correct, `[N]`.
        second: The same of the second group, for the same images.
    """
    values, counts = np.unique(first - second, return_counts=True)
    draws = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), _RESAMPLES)
    low, high = np.quantile(draws @ values / counts.sum(), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Test whether two classifiers err equally often on the same images.

    Args:
        first: Whether the first classifies each image correctly, `[N]`.
        second: The same of the second.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    disagreements = only_first + only_second
    p_value = stats.binomtest(only_first, disagreements).pvalue if disagreements else 1.0
    return McNemar(only_first, only_second, float(p_value))


def reliability_bins(probabilities: Floats, labels: NDArray[np.int64]) -> list[Bin]:
    """Return the predictions in 15 equal ranges of the confidence; ranges without a prediction are left out.

    Args:
        probabilities: Predicted probabilities `[N, C]`.
        labels: Actual classes `[N]`.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    members = [index == number for number in range(_BINS)]
    return [Bin(int(m.sum()), float(confidence[m].mean()), float(correct[m].mean())) for m in members if m.any()]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error (ECE): the mean distance of confidence and accuracy over the images.

    Args:
        bins: The bins of `reliability_bins`.
    """
    return sum(each.size * abs(each.accuracy - each.confidence) for each in bins) / sum(each.size for each in bins)


def brier_score(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    """Return the Brier score: the squared distance of the probabilities from the actual class, a mean over images.

    It is the sum over all classes (Brier, 1950), from 0 to 2. Some libraries divide it by the number of classes.

    Args:
        probabilities: Predicted probabilities `[N, C]`.
        labels: Actual classes `[N]`.
    """
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(labels)), labels] -= 1
    return float((errors**2).sum(axis=1).mean())


def image_losses(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the negative log-likelihood (NLL) of each image, `[N]`.

    Args:
        probabilities: Predicted probabilities `[N, C]`.
        labels: Actual classes `[N]`.
    """
    actual = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(actual, np.finfo(np.float32).tiny))
