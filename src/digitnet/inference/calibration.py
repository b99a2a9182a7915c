"""Fit the calibration of a trained model."""

import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.models import Calibration

TEMPERATURE_GRID = torch.linspace(0.5, 3, 51)
OOD_QUANTILE = 0.01  # the fraction of true digits that may fall below the energy threshold


def fit_calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit the temperature and the energy threshold of a model.

    The temperature minimises the cross-entropy (Guo et al., "On Calibration of Modern Neural Networks", 2017). The
    threshold is a low quantile of the energy score, the logsumexp of the logits (Liu et al., "Energy-based
    Out-of-distribution Detection", 2020): an image with a lower score is unlike the digits.

    Args:
        logits: Logits `[N, C]` of digits that the model was not trained on. A model that was trained on them is
            overconfident on them, and its temperature comes out too low.
        labels: Their classes `[N]`.

    Returns:
        The calibration.
    """
    losses = torch.stack([F.cross_entropy(logits / temperature, labels) for temperature in TEMPERATURE_GRID])
    energy_threshold = logits.logsumexp(dim=1).quantile(OOD_QUANTILE)
    return Calibration(float(TEMPERATURE_GRID[losses.argmin()]), float(energy_threshold))
