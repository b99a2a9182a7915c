"""Reads the digits in pictures: `digitnet.read("photo.png", model="cnn")`."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from digitnet.checkpoints import pretrained
from digitnet.data import MNISTDataModule
from digitnet.errors import UsageError
from digitnet.inference.photos.image_io import load_image
from digitnet.inference.photos.parallel import detect_files
from digitnet.inference.photos.segment import Box, DetectedDigit, detect_digits
from digitnet.models import DigitClassifier

SURE = 0.5  # probable: more than all the others together
STRANGE = 0.01  # of the validation digits look no more like a digit than what is called not sure
TEMPERATURES = torch.linspace(0.5, 3, 51)
BATCH = 32  # pictures


@dataclass(frozen=True, eq=False)  # images have no one answer to ==
class Digit:
    """One digit of a picture: the image `[28, 28]` that the network saw, where it stood, and the ten probabilities."""

    image: NDArray[np.uint8] = field(repr=False)
    box: Box  # left, top, right, bottom, in pixels of the picture as it was looked at
    probabilities: tuple[float, ...]
    sure: bool

    @property
    def ranked(self) -> list[tuple[int, float]]:
        """The ten digits, the most probable first, with their probabilities."""
        return sorted(enumerate(self.probabilities), key=lambda chance: -chance[1])

    @property
    def digit(self) -> int:
        return self.ranked[0][0]

    @property
    def probability(self) -> float:
        return self.ranked[0][1]


@dataclass(frozen=True)
class Reading:
    """What stands in a picture, left to right, top to bottom; `digits` is empty if there is no digit."""

    digits: tuple[Digit, ...]

    @property
    def text(self) -> str:
        """The digits read, with "?" for one that is not sure."""
        return "".join(str(found.digit) if found.sure else "?" for found in self.digits)

    @property
    def answer(self) -> str:
        """The text; or that there is no digit, or none that is sure."""
        return "no digit" if not self.digits else self.text if self.text.strip("?") else "not sure"

    @property
    def largest(self) -> Digit | None:
        """The one that the picture is of, if it is of one."""
        return max(self.digits, key=lambda found: found.box[3] - found.box[1], default=None)


class Reader:
    """Reads pictures with one model: "cnn" or "mlp" as they come with the package, a run folder, a checkpoint."""

    def __init__(self, model: str | Path | DigitClassifier = "cnn") -> None:
        self.model = model if isinstance(model, DigitClassifier) else pretrained.load(model)
        calibration = self.model.calibration or self.calibrate()
        self.temperature, self.familiar = calibration["temperature"], calibration["energy"]

    def calibrate(self) -> dict[str, float]:
        """The temperature of Guo et al., 2017, and the least energy score (Liu et al., 2020) of what is like a digit.

        By the validation images of the default split: a network that was trained on them comes out too sure.
        """
        images, labels = MNISTDataModule().part("val")
        logits = self.logits(images)
        losses = torch.stack([F.cross_entropy(logits / temperature, labels) for temperature in TEMPERATURES])
        energy = logits.logsumexp(dim=1).quantile(STRANGE)
        return {"temperature": float(TEMPERATURES[losses.argmin()]), "energy": float(energy)}

    def read(self, source: Any) -> Reading:
        """Of a path, a PIL image or an array. Raises UsageError for what is no picture."""
        return self.judge([detect_digits(load_image(source))])[0]

    def read_files(self, paths: Sequence[Path]) -> Iterator[Reading | UsageError]:
        """Of each file in turn, or why it is none; many are looked at by as many processes as there are cores."""
        pictures = detect_files(paths)
        while batch := list(itertools.islice(pictures, BATCH)):
            readings = iter(self.judge([found for found in batch if not isinstance(found, UsageError)]))
            yield from (found if isinstance(found, UsageError) else next(readings) for found in batch)

    def judge(self, pictures: Sequence[list[DetectedDigit]]) -> list[Reading]:
        """What the network says of the digits found in each picture."""
        found = [each for picture in pictures for each in picture]
        if not found:
            return [Reading(()) for _ in pictures]
        logits = self.logits(torch.from_numpy(np.stack([each.image for each in found])))
        probabilities = self.calibrated(logits)
        sure = (probabilities.amax(dim=1) >= SURE) & (logits.logsumexp(dim=1) >= self.familiar)
        verdicts = zip(found, probabilities.tolist(), sure.tolist(), strict=True)
        digits = iter([Digit(each.image, each.box, tuple(chances), known) for each, chances, known in verdicts])
        return [doubted(Reading(tuple(next(digits) for _ in picture))) for picture in pictures]

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """`[N, 10]` of images that are MNIST's already, `[N, 28, 28]`."""
        return self.calibrated(self.logits(images))

    def calibrated(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits / self.temperature).softmax(dim=1)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            logits = torch.cat([self.model(part) for part in torch.split(images, 1000)])
        self.model.train(training)  # it may be somebody's who trains on
        return logits


def doubted(reading: Reading) -> Reading:
    """A picture most of whose digits are none is a pattern that is like some by chance."""
    if 2 * sum(found.sure for found in reading.digits) > len(reading.digits):
        return reading
    return Reading(tuple(Digit(each.image, each.box, each.probabilities, False) for each in reading.digits))


@functools.lru_cache(maxsize=4)
def reader_of(model: str | Path) -> Reader:
    return Reader(model)


def read(source: Any, model: str | Path | DigitClassifier = "cnn") -> Reading:
    """The digits in one picture; a second picture needs no second start."""
    return (Reader(model) if isinstance(model, DigitClassifier) else reader_of(model)).read(source)
