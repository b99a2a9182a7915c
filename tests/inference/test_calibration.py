"""Fitting the calibration of a model."""

import pytest
import torch

import digitnet
from digitnet.inference.calibration import fit_calibration
from digitnet.inference.reader import DigitReader


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    """Labels are drawn from the softmax of the logits; the model doubles the logits."""
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 10, generator=random)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=random).squeeze(1)
    assert fit_calibration(2 * logits, labels).temperature == pytest.approx(2, abs=0.1)


def test_one_percent_of_the_images_fall_below_the_energy_threshold() -> None:
    logits = torch.randn(10_000, 10, generator=torch.Generator().manual_seed(0))
    threshold = fit_calibration(logits, torch.zeros(10_000, dtype=torch.long)).energy_threshold
    assert (logits.logsumexp(dim=1) < threshold).sum() == 100


def test_a_calibration_on_training_images_is_overconfident() -> None:
    reader = DigitReader("mlp")
    assert reader.fit_calibration().temperature < reader.calibration.temperature


def test_a_model_without_a_calibration_is_calibrated_by_the_reader() -> None:
    model = digitnet.load("mlp")
    model.calibration = None
    reader = DigitReader(model)
    assert reader.calibration == reader.fit_calibration()
