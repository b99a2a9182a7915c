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
from digitnet.checkpoints.recorded_data import open_recorded_data
from digitnet.data import ImageDataModule, MNISTDataModule
from digitnet.data.catalog import DIGITS
from digitnet.errors import UsageError
from digitnet.inference.calibration import fit_calibration
from digitnet.inference.photos.parallel import detect_files
from digitnet.inference.photos.segment import Box, DetectedDigit, detect_in
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
    """Left, top, right and bottom in pixels of the upright picture; right and bottom are exclusive."""

    probabilities: tuple[float, ...]
    """Calibrated probabilities of the classes."""

    is_confident: bool
    """Whether the prediction is reliable: the image resembles a digit and one class is more probable than the rest."""

    class_names: tuple[str, ...] = field(default=DIGITS, repr=False)
    """Names of the classes."""

    @property
    def top_classes(self) -> list[tuple[int, float]]:
        """The classes with their probabilities, the most probable first."""
        return sorted(enumerate(self.probabilities), key=lambda entry: -entry[1])

    @property
    def label(self) -> int:
        """The most probable class, a number from 0."""
        return self.top_classes[0][0]

    @property
    def name(self) -> str:
        """The name of the most probable class."""
        return self.class_names[self.label]

    @property
    def confidence(self) -> float:
        """The probability of the most probable class."""
        return self.top_classes[0][1]


@dataclass(frozen=True)
class ReadResult:
    """The digits in a picture, from left to right and from top to bottom."""

    digits: tuple[DigitPrediction, ...]
    """The digits; empty if the picture has none."""

    class_names: tuple[str, ...] = DIGITS
    """Names of the classes of the model."""

    @property
    def text(self) -> str:
        """The predicted classes, with "?" for a digit without a confident prediction; long names are set apart."""
        separator = "" if max(map(len, self.class_names)) == 1 else " "
        return separator.join(digit.name if digit.is_confident else "?" for digit in self.digits)

    @property
    def summary(self) -> str:
        """The text; "no digit" if the picture has none; "not sure" if no prediction is confident."""
        return "no digit" if not self.digits else self.text if self.text.strip("? ") else "not sure"

    @property
    def largest_digit(self) -> DigitPrediction | None:
        """The tallest digit, which is the subject of a picture of one digit; None if the picture has none."""
        return max(self.digits, key=lambda digit: digit.box[3] - digit.box[1], default=None)


class DigitReader:
    """Read pictures with one model.

    Pictures are searched for handwriting: for a model of other things, such as clothes, the classes are named, but the
    answers mean little.

    Args:
        model: A model reference ("cnn", "mlp", a run folder, a checkpoint, an exported .safetensors file), or a model.
            A model without a calibration is calibrated first, which takes a forward pass over the validation images.

    Raises:
        UsageError: If there is no such model.
    """

    def __init__(self, model: str | Path | DigitModule = "bundled:cnn") -> None:
        self.model = model if isinstance(model, DigitModule) else pretrained.load(model)
        self.calibration = self.model.calibration or self.fit_calibration()
        self.class_names = self.model.class_names

    def fit_calibration(self) -> Calibration:
        """Fit a calibration on validation images: of the default split for MNIST, otherwise on the model's own.

        It is too optimistic for a model that was trained on these images. If the data of the model is not here, its
        probabilities are left as they are.
        """
        record = self.model.dataset
        if record is None or record.name == "mnist":
            data: ImageDataModule | None = MNISTDataModule() if self.model.num_classes == len(DIGITS) else None
        else:
            data = open_recorded_data(record)
        if data is None or not data.val_size:
            return Calibration(1.0, torch.finfo(torch.float32).min)
        images, labels = data.split("val")
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
        return self.classify([detect_in(source)])[0]

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
            return [ReadResult((), self.class_names) for _ in pictures]
        logits = self.logits(torch.from_numpy(np.stack([digit.image for digit in detected])))
        probabilities = self.calibrate_logits(logits)
        confident = (probabilities.amax(dim=1) >= MIN_CONFIDENCE) & (
            logits.logsumexp(dim=1) >= self.calibration.energy_threshold
        )
        predictions = (
            DigitPrediction(digit.image, digit.box, tuple(row), is_confident, self.class_names)
            for digit, row, is_confident in zip(detected, probabilities.tolist(), confident.tolist(), strict=True)
        )
        results = [ReadResult(tuple(next(predictions) for _ in found), self.class_names) for found in pictures]
        return [_reject_if_mostly_uncertain(result) for result in results]

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
    return replace(result, digits=tuple(replace(digit, is_confident=False) for digit in result.digits))


@functools.lru_cache(maxsize=4)
def _cached_reader(model: str | Path) -> DigitReader:
    return DigitReader(model)


def read(source: Any, model: str | Path | DigitModule = "bundled:cnn") -> ReadResult:
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
