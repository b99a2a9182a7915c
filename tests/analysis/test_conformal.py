"""Split conformal prediction holds what it promises on data of a known distribution."""

import math

import numpy as np
import pytest

from digitnet.analysis.conformal import LEVELS, conformal_threshold, evaluate_sets


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities `[N, 10]` of a network that is far too sure, and the classes that were drawn."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 10))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(10, p=row) for row in true])
    wrong = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    return wrong, labels


@pytest.mark.parametrize("level", LEVELS)
def test_the_sets_of_new_images_cover_the_actual_class_as_often_as_promised_even_if_the_network_is_too_sure(
    level: float,
) -> None:
    threshold = conformal_threshold(*sample(5000, 1), level)
    result = evaluate_sets(*sample(20_000, 2), threshold)
    # The coverage of one calibration sample is beta-distributed around the level.
    assert result.coverage == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) * (1 / 5000 + 1 / 20_000)))


def test_the_probabilities_alone_do_not_cover_that_often() -> None:
    """The twin: sets that trust the probabilities of the same network hold the actual class far too rarely."""
    probabilities, labels = sample(20_000, 2)
    order = np.argsort(-probabilities, axis=1)
    ranked = np.take_along_axis(probabilities, order, axis=1)
    needed = (ranked.cumsum(axis=1) < 0.9).sum(axis=1) + 1
    place = (order == labels[:, None]).argmax(axis=1)
    assert (place < needed).mean() < 0.8


def test_the_threshold_is_the_corrected_quantile_of_the_probabilities_of_the_actual_class() -> None:
    probabilities = np.array([[p / 100, 1 - p / 100] for p in range(1, 100)])
    labels = np.zeros(99, dtype=np.int64)
    # 99 images: the 90th lowest of the scores 1 - p, which is the 10th lowest probability.
    assert conformal_threshold(probabilities, labels, 0.9) == pytest.approx(0.10)
    assert evaluate_sets(probabilities, labels, 0.095) == (90 / 99, pytest.approx((90 + 90) / 99))


def test_with_too_few_images_every_set_has_all_classes() -> None:
    probabilities, labels = sample(50, 1)
    threshold = conformal_threshold(probabilities, labels, 0.99)
    assert threshold == -math.inf
    assert evaluate_sets(probabilities, labels, threshold) == (1.0, 10.0)
