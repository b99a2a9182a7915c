"""Statistics against values that are computed here in another way, or are known."""

import math
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from digitnet.analysis import statistics


def test_the_interval_over_seeds_is_the_t_interval() -> None:
    values = [0.991, 0.994, 0.9925]
    half = 4.302652729911275 * stdev(values) / math.sqrt(3)  # the quantile of t with two degrees of freedom
    assert statistics.seed_interval(values) == pytest.approx((mean(values) - half, mean(values) + half))


def test_two_seeds_give_no_interval() -> None:
    assert statistics.seed_interval([0.9, 0.8]) is None
    assert statistics.seed_difference_interval([0.9, 0.8], [0.7, 0.6, 0.5]) is None


def test_the_mcnemar_test_is_the_exact_binomial_test() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = first.copy()
    second[:8] = False
    second[90:92] = True
    tail = sum(math.comb(10, k) for k in range(3)) / 2**10
    assert statistics.mcnemar(first, second) == pytest.approx((8, 2, 2 * tail))
    assert statistics.mcnemar(first, first) == (0, 0, 1.0)


def test_the_interval_over_images_is_that_of_wilson() -> None:
    p, n, z = 0.98, 500, 1.959963984540054
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    assert statistics.wilson_interval(p, n) == pytest.approx(expected)


def test_the_bootstrap_interval_agrees_with_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    first, second = ((rng.random(10_000) < p).astype(float) for p in (0.97, 0.95))
    difference = first - second
    half = 1.96 * difference.std() / 100
    expected = (difference.mean() - half, difference.mean() + half)
    assert statistics.image_difference_interval(first, second) == pytest.approx(expected, abs=2e-4)


def test_calibration_error_and_loss_agree_with_torchmetrics_and_torch() -> None:
    logits = 2 * torch.randn(4000, 10, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 10, (4000,), generator=torch.Generator().manual_seed(2))
    probabilities = logits.softmax(dim=1)
    bins = statistics.reliability_bins(probabilities.numpy(), labels.numpy())
    expected = multiclass_calibration_error(probabilities, labels, num_classes=10, n_bins=15)
    assert statistics.calibration_error(bins) == pytest.approx(float(expected), abs=1e-6)
    losses = statistics.image_losses(probabilities.numpy(), labels.numpy())
    assert losses.mean() == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
