"""Pictures for the tests of the reader and of `digitnet-predict`."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from digitnet.data import mnist

IMAGES, LABELS = mnist.load_mnist("test")


def digit_picture(index: int) -> Image.Image:
    """Return a test image, enlarged, dark on white."""
    return Image.fromarray(255 - IMAGES[index].numpy()).resize((140, 140), Image.Resampling.BICUBIC)


def save_digit(path: Path, index: int) -> Path:
    """Save a picture of a test image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digit_picture(index).save(path, "PNG")
    return path


def label(index: int) -> str:
    """Return the label of a test image."""
    return str(LABELS[index].item())


def scribble(seed: int) -> Image.Image:
    """Return a picture of a random line with a dozen corners."""
    points = np.random.default_rng(seed).uniform(40, 260, (12, 2)).tolist()
    image = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(image).line([tuple(point) for point in points], fill=0, width=6, joint="curve")
    return image


def is_one_line(text: str) -> bool:
    """Whether a command has written exactly one line, an error message."""
    return text.startswith("digitnet: error: ") and text.count("\n") == 1 and text.endswith("\n")
