"""Split conformal prediction: sets of classes that hold the actual one with a chosen probability."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.90, 0.95, 0.99)
"""The levels of coverage of an evaluation."""

Floats = NDArray[np.floating[Any]]


class ConformalResult(NamedTuple):
    """How the prediction sets of a level do on new images."""

    coverage: float
    """Fraction of the images whose set holds the actual class."""
    mean_size: float
    """Mean number of classes in a set. It is below 1 where sets are empty."""


def conformal_threshold(probabilities: Floats, labels: NDArray[np.int64], level: float) -> float:
    """Return the lowest probability of a class in a prediction set.

    The score of an image is 1 minus the probability of its actual class (Sadinle, Lei and Wasserman, "Least Ambiguous
    Set-Valued Classifiers with Bounded Error Levels", 2019), and the threshold is its quantile with the correction for
    the size of the sample. The sets of new images of the same kind then hold the actual class with a probability of at
    least `level`, whatever the network.

    Args:
        probabilities: Predicted probabilities `[N, C]` of images that the network was not trained on.
        labels: Their classes `[N]`.
        level: Coverage to reach, above 0 and below 1.

    Returns:
        The threshold; minus infinity if there are too few images, so that each set has all classes.
    """
    actual = np.sort(probabilities[np.arange(len(labels)), labels])
    rank = math.ceil((len(labels) + 1) * level)  # of the scores, from 1 for the lowest
    return float(actual[len(labels) - rank]) if rank <= len(labels) else -math.inf


def evaluate_sets(probabilities: Floats, labels: NDArray[np.int64], threshold: float) -> ConformalResult:
    """Return the coverage and the size of prediction sets.

    Args:
        probabilities: Predicted probabilities `[N, C]` of new images.
        labels: Their classes `[N]`.
        threshold: A threshold of `conformal_threshold`.
    """
    sets = probabilities >= threshold
    covered = sets[np.arange(len(labels)), labels]
    return ConformalResult(float(covered.mean()), float(sets.sum(axis=1).mean()))
