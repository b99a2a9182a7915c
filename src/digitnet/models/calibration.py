"""The values that turn logits into calibrated probabilities."""

import math
from dataclasses import dataclass

from digitnet.errors import check_argument


@dataclass(frozen=True)
class Calibration:
    """Calibration of a network's probabilities, measured on images that it was not trained on.

    Args:
        temperature: Divisor of the logits before the softmax (Guo et al., 2017). Must be above 0.
        energy_threshold: Lowest energy score, `logsumexp` of the logits, of an image that counts as a digit (Liu et
            al., 2020, with the sign reversed). Must be finite.

    Raises:
        ArgumentError: If a value is out of range.
    """

    temperature: float
    energy_threshold: float

    def __post_init__(self) -> None:
        check_argument(0 < self.temperature < math.inf, "temperature", self.temperature, "above 0")
        check_argument(math.isfinite(self.energy_threshold), "energy_threshold", self.energy_threshold, "finite")
