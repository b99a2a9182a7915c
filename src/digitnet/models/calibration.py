"""Calibration of a trained model's confidence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Calibration:
    """How a model's logits are turned into probabilities, and which images it recognises as digits."""

    temperature: float
    """Divisor of the logits before the softmax, above 0 (Guo et al., 2017)."""

    energy_threshold: float
    """Least logsumexp of the logits of an image that is taken for a digit (Liu et al., 2020)."""
