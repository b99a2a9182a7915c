"""Fault injection into picture files: each is loaded, or reported in one line, within seconds."""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitnet.errors import UsageError
from digitnet.inference.photos.image_io import load_image
from tests.faults.conftest import trials
from tests.faults.test_checkpoints import flip, truncate
from tests.inference.photos.test_image_io import drawing, rotated

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


def corrupt_header(content: bytes, rng: random.Random) -> bytes:
    """Replace up to four of the first 64 bytes, which hold sizes, depths and offsets."""
    corrupted = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        corrupted[rng.randrange(min(len(content), 64))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(corrupted)


DAMAGES = [(name, kind, seed) for name in FORMATS for kind in (truncate, flip, corrupt_header) for seed in range(100)]
FAST = [damage for damage in DAMAGES if damage[2] < (1 if damage[1] is truncate else 2)]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return an intact picture of each format, with an EXIF where Pillow writes one; libtiff decodes the TIFF."""
    folder = tmp_path_factory.mktemp("intact")
    for name in FORMATS:
        options = {"exif": rotated(6)[1]} if name in ("PNG", "JPEG", "WEBP", "AVIF") else {}
        drawing().save(folder / name, name, **options, **({"compression": "tiff_lzw"} if name == "TIFF" else {}))
    return {name: (folder / name).read_bytes() for name in FORMATS}


@pytest.mark.parametrize(("name", "kind", "seed"), trials(DAMAGES, fast=FAST))
def test_a_damaged_picture_is_loaded_or_reported_in_one_line(
    name: str, kind: Any, seed: int, intact: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(kind(intact[name], random.Random(f"{name} {kind.__name__} {seed}")))
    start = time.process_time()
    try:
        picture = load_image(path)
    except UsageError as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert line.isprintable()
        assert len(line) - len(str(path)) < 200
    else:
        assert picture.ndim == 3
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
    assert time.process_time() - start < 5
    assert capfd.readouterr() == ("", "")
