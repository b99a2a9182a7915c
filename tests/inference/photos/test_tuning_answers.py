"""The answers to the tuning photographs are those that were recorded before the reading was made faster.

`tuning_answers.json` holds, by the beginning of the SHA-256 of a photograph, what both networks read in it.
The answers of a network are recorded again when its bundled weights change.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photo_generator import PHOTO_SETS, PHOTOS_PER_SEED, draw_photograph
from digitnet.inference.photos.image_io import load_image
from digitnet.inference.photos.segment import detect_digits
from digitnet.inference.reader import DigitReader

ANSWERS: dict[str, list[str]] = json.loads((Path(__file__).parent / "tuning_answers.json").read_text())
PHOTOGRAPHS = [(seed, number) for seed in PHOTO_SETS["tuning"] for number in range(PHOTOS_PER_SEED)]


@pytest.mark.parametrize("step", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_the_photographs_are_read_as_before(step: int) -> None:
    files = {}
    for seed, number in PHOTOGRAPHS[::step]:
        file = draw_photograph(number % 10, np.random.default_rng([seed, number]))
        files[hashlib.sha256(file).hexdigest()[:16]] = file
    known = {key: file for key, file in files.items() if key in ANSWERS}
    if len(known) < len(files) / 2:
        pytest.skip("these versions of numpy, scipy and Pillow draw other photographs")
    pictures = [detect_digits(load_image(Image.open(io.BytesIO(file)))) for file in known.values()]
    answers = [[result.text for result in DigitReader(name).classify(pictures)] for name in ("cnn", "mlp")]
    assert list(map(list, zip(*answers, strict=True))) == [ANSWERS[key] for key in known]
