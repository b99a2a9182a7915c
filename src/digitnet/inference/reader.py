"""Read the digits in pictures: `digitnet.read("photo.png", model="cnn")`."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digitnet.checkpoints import pretrained
from digitnet.data import MNISTDataModule
from digitnet.errors import UsageError
from digitnet.inference.calibration import fit_calibration
from digitnet.inference.photos.image_io import load_image
from digitnet.inference.photos.parallel import detect_files
from digitnet.inference.photos.segment import Box, DetectedDigit, detect_digits
from digitnet.models import Calibration, DigitModule

MIN_CONFIDENCE = 0.5  # more probable than all other classes together
IMAGES_PER_FORWARD_PASS = 1000
PICTURES_PER_BATCH = 32


@dataclass(frozen=True, eq=False)  # arrays have no single truth value for ==
class DigitPrediction:
    """One digit of a picture and its predicted class."""

    image: NDArray[np.uint8] = field(repr=False)
    """The network's input `[28, 28]`, bright ink on a dark ground."""

    box: Box
    """Left, top, right and bottom in pixels of the picture, after a large picture was scaled down."""

    probabilities: tuple[float, ...]
    """Calibrated probabilities of the ten classes."""

    is_confident: bool
    """Whether the prediction is reliable: the image resembles a digit and one class is more probable than the rest."""

    @property
    def top_classes(self) -> list[tuple[int, float]]:
        """The ten classes with their probabilities, the most probable first."""
        return sorted(enumerate(self.probabilities), key=lambda entry: -entry[1])

    @property
    def label(self) -> int:
        """The most probable class."""
        return self.top_classes[0][0]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return self.top_classes[0][1]


@dataclass(frozen=True)
class ReadResult:
    """The digits in a picture, from left to right and from top to bottom."""

    digits: tuple[DigitPrediction, ...]
    """The digits; empty if the picture has none."""

    @property
    def text(self) -> str:
        """The predicted classes, with "?" for a digit without a confident prediction."""
        return "".join(str(digit.label) if digit.is_confident else "?" for digit in self.digits)

    @property
    def summary(self) -> str:
        """The text; "no digit" if the picture has none; "not sure" if no prediction is confident."""
        return "no digit" if not self.digits else self.text if self.text.strip("?") else "not sure"

    @property
    def largest_digit(self) -> DigitPrediction | None:
        """The tallest digit, which is the subject of a picture of one digit; None if the picture has none."""
        return max(self.digits, key=lambda digit: digit.box[3] - digit.box[1], default=None)


class DigitReader:
    """Read pictures with one model.

    Args:
        model: A model reference ("cnn", "mlp", a run folder, a checkpoint, an exported .safetensors file), or a model.
            A model without a calibration is calibrated first, which takes a forward pass over the validation images.

    Raises:
        UsageError: If there is no such model.
    """

    def __init__(self, model: str | Path | DigitModule = "cnn") -> None:
        self.model = model if isinstance(model, DigitModule) else pretrained.load(model)
        self.calibration = self.model.calibration or self.fit_calibration()

    def fit_calibration(self) -> Calibration:
        """Fit a calibration on the validation images of the default split.

        It is too optimistic for a model that was trained on these images.
        """
        images, labels = MNISTDataModule().split("val")
        return fit_calibration(self.logits(images), labels)

    def read(self, source: Any) -> ReadResult:
        """Read the digits in one picture.

        Args:
            source: A path, a PIL image or a NumPy array.

        Returns:
            The digits that were found.

        Raises:
            UsageError: If the source is not a picture.
        """
        return self.classify([detect_digits(load_image(source))])[0]

    def read_files(self, paths: Sequence[Path]) -> Iterator[ReadResult | UsageError]:
        """Read the digits in many files; with many files, one process per core searches the pictures for digits.

        Args:
            paths: The picture files.

        Yields:
            For each file in turn the digits that were found, or the error if it is not a picture.
        """
        pictures = detect_files(paths)
        while batch := list(itertools.islice(pictures, PICTURES_PER_BATCH)):
            results = iter(self.classify([found for found in batch if not isinstance(found, UsageError)]))
            yield from (found if isinstance(found, UsageError) else next(results) for found in batch)

    def classify(self, pictures: Sequence[list[DetectedDigit]]) -> list[ReadResult]:
        """Classify the digits that were detected in each picture.

        Args:
            pictures: For each picture the digits that were detected in it.

        Returns:
            The predictions for each picture.
        """
        detected = [digit for picture in pictures for digit in picture]
        if not detected:
            return [ReadResult(()) for _ in pictures]
        logits = self.logits(torch.from_numpy(np.stack([digit.image for digit in detected])))
        probabilities = self.calibrate_logits(logits)
        confident = (probabilities.amax(dim=1) >= MIN_CONFIDENCE) & (
            logits.logsumexp(dim=1) >= self.calibration.energy_threshold
        )
        predictions = (
            DigitPrediction(digit.image, digit.box, tuple(row), is_confident)
            for digit, row, is_confident in zip(detected, probabilities.tolist(), confident.tolist(), strict=True)
        )
        return [_reject_if_mostly_uncertain(ReadResult(tuple(next(predictions) for _ in found))) for found in pictures]

    def probabilities(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities `[N, C]` of images in the format of MNIST, `[N, 28, 28]`."""
        return self.calibrate_logits(self.logits(images))

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits `[N, C]` of images in the format of MNIST, `[N, 28, 28]`."""
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            logits = torch.cat([self.model(batch) for batch in torch.split(images, IMAGES_PER_FORWARD_PASS)])
        self.model.train(training)  # the caller may be in the middle of its training
        return logits

    def calibrate_logits(self, logits: Tensor) -> Tensor:
        """Return the calibrated probabilities of logits, both `[N, C]`."""
        return (logits / self.calibration.temperature).softmax(dim=1)


def _reject_if_mostly_uncertain(result: ReadResult) -> ReadResult:
    """Mark all digits as uncertain if at most half are confident: a pattern resembles some digits by chance."""
    if 2 * sum(digit.is_confident for digit in result.digits) > len(result.digits):
        return result
    return ReadResult(tuple(replace(digit, is_confident=False) for digit in result.digits))


@functools.lru_cache(maxsize=4)
def _cached_reader(model: str | Path) -> DigitReader:
    return DigitReader(model)


def read(source: Any, model: str | Path | DigitModule = "cnn") -> ReadResult:
    """Read the digits in one picture.

    A model that is given by a reference is loaded once and kept for later calls.

    Args:
        source: A path, a PIL image or a NumPy array.
        model: A model reference ("cnn", "mlp", a run folder, a checkpoint, an exported .safetensors file), or a model.

    Returns:
        The digits that were found.

    Raises:
        UsageError: If the source is not a picture, or if there is no such model.
    """
    reader = DigitReader(model) if isinstance(model, DigitModule) else _cached_reader(model)
    return reader.read(source)
