"""Scores a model on corrupted test images: MNIST-C-like ones made on the fly, or those of the archive of MNIST-C."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digitnet.analysis.corruptions import CORRUPTIONS, corrupt
from digitnet.data.mnist_c import load_mnist_c
from digitnet.training.assessment import score_probabilities

_EXAMPLES = 6  # of each corruption, for the picture
IDENTITY = "identity"
"""The name of the images as they are, as in the archive."""


class CorruptionScore(NamedTuple):
    """How a model does under one corruption."""

    accuracy: float
    """Fraction of correct images."""
    nll: float
    """Mean negative log-likelihood of the actual class."""
    ece: float
    """Expected calibration error in 15 bins, from 0 to 1."""


class Robustness(NamedTuple):
    """How a model does under all corruptions."""

    kind: str
    """"MNIST-C-like", or "MNIST-C" for the published images."""
    seed: int | None
    """Seed of the corruptions; None for the published images."""
    scores: dict[str, CorruptionScore]
    """The scores by corruption; "identity" is first."""
    examples: dict[str, NDArray[np.uint8]]
    """The first six images by corruption, `[6, 28, 28]`."""

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy over the corruptions, without "identity"."""
        return float(np.mean([each.accuracy for name, each in self.scores.items() if name != IDENTITY]))

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain data."""
        scores = {
            name: {"test/acc": each.accuracy, "test/loss": each.nll, "test/ece": each.ece}
            for name, each in self.scores.items()
        }
        return {"kind": self.kind, "seed": self.seed, "mean_acc": self.mean_accuracy, "corruptions": scores}


def score_robustness(
    predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, archive: Path | None, seed: int
) -> Robustness:
    """Score a model under each corruption.

    Args:
        predict: Maps images `[N, 28, 28]`, uint8 on the CPU, to logits `[N, C]` on the CPU.
        images: The test images `[N, 28, 28]`, uint8 on the CPU.
        labels: Their classes `[N]`.
        archive: The folder `mnist_c` of the archive of MNIST-C; None makes the corruptions on the fly.
        seed: Seed of the corruptions made on the fly.

    Returns:
        The scores.

    Raises:
        UsageError: If the archive is damaged or of other images.
    """
    scores, examples = {}, {}
    for name in (IDENTITY, *CORRUPTIONS):
        corrupted = images
        if name != IDENTITY:
            made = load_mnist_c(archive, name, labels) if archive else None
            corrupted = torch.from_numpy(corrupt(images.numpy(), name, seed)) if made is None else made
        logits = predict(corrupted)
        accuracy = float((logits.argmax(dim=1) == labels).double().mean())
        probabilities = score_probabilities(logits.double(), labels)
        scores[name] = CorruptionScore(accuracy, probabilities.nll, probabilities.ece)
        examples[name] = corrupted[:_EXAMPLES].numpy()
    kind = "MNIST-C" if archive else "MNIST-C-like"
    return Robustness(kind, None if archive else seed, scores, examples)
