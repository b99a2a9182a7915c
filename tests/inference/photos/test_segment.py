"""Digits are found in any picture and come out as MNIST has them, whatever the paper, the light and the pen."""

import importlib.util
import io
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import euler_number

from digitnet.data import mnist
from digitnet.inference.photos.image_io import load
from digitnet.inference.photos.normalize import THIN
from digitnet.inference.photos.segment import Found, find_digits
from digitnet.inference.reader import DigitReader as Reader

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
IMAGES = mnist.load_mnist("test")[0].numpy()
LABELS = mnist.load_mnist("test")[1].numpy()

LOST = 0.001  # of the digits, on the way through a picture: wanted

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def readers() -> dict[str, Reader]:
    return {name: Reader(name) for name in ("cnn", "mlp")}


@pytest.fixture(scope="session")
def found() -> list[list[Found]]:
    """In the first 2,000 test images, given as the pictures they are: bright on black."""
    return [find_digits(load(image)) for image in IMAGES[:2000]]


def read(reader: Reader, picture: Any) -> str:
    """The digits that are most probable, sure or not."""
    return "".join(str(each.label) for each in reader.read(picture).digits)


def apart(one: Array, other: Array) -> int:
    """The largest difference of two images after the shift by up to one pixel that makes it least."""
    wide = np.pad(other.astype(int), 1)
    shifts = itertools.product(range(3), repeat=2)
    return min(int(np.abs(wide[down : down + 28, right : right + 28] - one).max()) for down, right in shifts)


def ink(number: int, scale: int) -> Array:
    """A test image that was written larger, `[28 * scale, 28 * scale]`, bright on black."""
    return np.asarray(Image.fromarray(IMAGES[number]).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC))


def page(height: int, width: int, *placed: tuple[Array, int, int]) -> Array:
    """Ink at (top, left), bright on black."""
    whole = np.zeros((height, width), np.uint8)
    for inked, top, left in placed:
        part = whole[top : top + inked.shape[0], left : left + inked.shape[1]]
        np.maximum(part, inked, out=part)
    return whole


def row(numbers: range, scale: int = 3, gap: int = 20) -> Array:
    side = 28 * scale
    placed = [(ink(number, scale), gap, gap + place * (side + gap)) for place, number in enumerate(numbers)]
    return page(side + 2 * gap, len(numbers) * (side + gap) + gap, *placed)


def drawn_on(number: int, draw: Callable[[ImageDraw.ImageDraw], Any]) -> Array:
    """A test digit with something drawn over it in ink, 300 × 300, bright on black."""
    image = Image.fromarray(page(300, 300, (ink(number, 5), 80, 80)))
    draw(ImageDraw.Draw(image))
    return np.asarray(image)


def lit(inked: Array, seed: int) -> Array:
    """Dark ink on paper that a camera saw: a light that falls off to one side, and mild noise."""
    random = np.random.default_rng(seed)
    y, x = (axis / max(inked.shape) - 0.5 for axis in np.indices(inked.shape))
    angle = random.uniform(0, 2 * np.pi)
    light = 0.9 - 0.4 * (0.5 + x * np.cos(angle) + y * np.sin(angle))
    return ((1 - 0.85 * inked / 255) * light + random.normal(0, 0.012, inked.shape)).clip(0, 1)


def transparent(inked: Array, colour: int) -> Image.Image:
    pixels = np.full((*inked.shape, 4), colour, np.uint8)
    pixels[..., 3] = inked
    return Image.fromarray(pixels)


def eight(width: int) -> Image.Image:
    image = Image.new("L", (400, 400), 255)
    draw, half = ImageDraw.Draw(image), width // 2
    draw.ellipse((140 - half, 60 - half, 260 + half, 180 + half), outline=0, width=width)
    draw.ellipse((125 - half, 180 - half, 275 + half, 340 + half), outline=0, width=width)
    return image


def seven(width: int) -> Image.Image:
    image = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(image).line([(120, 90), (290, 90), (190, 320)], fill=0, width=width, joint="curve")
    return image


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (5, 5), (12, 12), (16, 16), (8, 1000), (1000, 8)])
def test_a_picture_of_a_few_pixels_is_read_as_any_other(shape: tuple[int, int]) -> None:
    assert len(find_digits(load(np.random.default_rng(1).random(shape)))) <= 1


# MNIST itself


def same(image: Array, digits: list[Found]) -> bool:
    return len(digits) == 1 and apart(image, digits[0].image) <= 3


def test_mnist_comes_back_as_it_was(found: list[list[Found]]) -> None:
    assert all(found[:500]), "a digit was overlooked"
    assert sum(map(same, IMAGES[:500], found[:500])) >= 0.88 * 500


def right(reader: Reader, found: list[list[Found]]) -> int:
    """How many are read right: a picture with not exactly one digit is not."""
    images = torch.from_numpy(np.stack([digits[0].image for digits in found]))
    predicted = reader.logits(images).argmax(dim=1).numpy()
    alone = np.array([len(digits) == 1 for digits in found])
    return int((alone & (predicted == LABELS[: len(found)])).sum())


def right_at_once(reader: Reader, count: int) -> int:
    return int((reader.logits(torch.from_numpy(IMAGES[:count])).argmax(dim=1).numpy() == LABELS[:count]).sum())


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_hardly_any_digit_is_lost_on_the_way(name: str, readers: dict[str, Reader], found: list[list[Found]]) -> None:
    assert right_at_once(readers[name], 2000) - right(readers[name], found) <= 2 * LOST * 2000  # the sample is small


@pytest.mark.slow
def test_hardly_any_digit_of_all_is_lost_on_the_way(readers: dict[str, Reader]) -> None:
    found = [find_digits(load(image)) for image in IMAGES]
    assert all(found)
    assert sum(map(same, IMAGES, found)) >= 0.88 * len(IMAGES)
    for reader in readers.values():
        assert right_at_once(reader, len(IMAGES)) - right(reader, found) <= LOST * len(IMAGES)


def test_the_centre_of_mass_comes_to_the_middle() -> None:
    for number in range(100):
        for picture in (IMAGES[number], 255 - page(300, 240, (ink(number, 4), 10, 110))):
            (digit,) = find_digits(load(picture))
            inked = digit.image.any(axis=1).nonzero()[0], digit.image.any(axis=0).nonzero()[0]
            assert max(map(np.ptp, inked)) + 1 == 20
            if all(places[0] > 0 and places[-1] < 27 for places in inked):
                assert np.abs(np.subtract(ndimage.center_of_mass(digit.image), 14)).max() < 1


def test_the_box_is_where_the_digit_stands() -> None:
    picture = np.full((200, 300), 255, np.uint8)
    picture[50:150, 200:215] = 0
    (digit,) = find_digits(load(picture))
    assert digit.box == (200, 50, 215, 150)


# The same digit in other pictures

TWINS: dict[str, Callable[[int], Any]] = {
    "dark on white": lambda number: 255 - IMAGES[number],
    "black on transparent paper": lambda number: transparent(IMAGES[number], 0),
    "white on transparent paper": lambda number: transparent(IMAGES[number], 255),
    "large, black on transparent paper": lambda number: transparent(ink(number, 5), 0),
    "three times larger": lambda number: ink(number, 3),
    "ten times larger": lambda number: 255 - ink(number, 10),
    "in a corner": lambda number: page(220, 300, (ink(number, 5), 0, 155)),
    "at the other side": lambda number: 255 - page(300, 220, (ink(number, 5), 155, 3)),
    "small on a large page": lambda number: 255 - page(480, 480, (ink(number, 3), 60, 300)),
    "on a page that has to be shrunk": lambda number: 255 - page(1200, 900, (ink(number, 5), 60, 500)),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_digit_is_the_same_whatever_it_is_written_on(twin: str, readers: dict[str, Reader]) -> None:
    for number in range(50):
        assert read(readers["cnn"], TWINS[twin](number)) == read(readers["cnn"], IMAGES[number])


@pytest.mark.parametrize("side", [200, 400])
def test_the_light_does_not_change_what_is_read(side: int, readers: dict[str, Reader]) -> None:
    same = 0
    for number in range(50):
        top, left = np.random.default_rng(number).integers(0, side - 140, 2)
        picture = lit(page(side, side, (ink(number, 5), top, left)), number)
        same += read(readers["cnn"], picture) == read(readers["cnn"], IMAGES[number])
    assert same >= 49


def test_a_digit_that_fills_the_picture_is_read_whole(readers: dict[str, Reader]) -> None:
    """Its strokes are not taken for lines of the paper, though they run through the picture from end to end."""
    right = 0
    for number in range(50):
        written = ink(number, 5)
        tight = written[ndimage.find_objects((written > 128).astype(int))[0]]
        right += read(readers["cnn"], 255 - tight) == str(LABELS[number])
    assert right >= 45


# Several


def test_a_row_is_read_from_left_to_right(readers: dict[str, Reader]) -> None:
    right = sum(
        read(readers["cnn"], 255 - row(range(first, first + 5))) == "".join(map(str, LABELS[first : first + 5]))
        for first in range(0, 100, 5)
    )
    assert right >= 19


def test_two_rows_are_read_one_after_the_other(readers: dict[str, Reader]) -> None:
    right = 0
    for first in range(0, 120, 6):
        rows = np.vstack([row(range(first, first + 3)), row(range(first + 3, first + 6))])
        right += read(readers["cnn"], rows) == "".join(map(str, LABELS[first : first + 6]))
    assert right >= 19


def test_a_row_that_runs_downhill_is_one_row(readers: dict[str, Reader]) -> None:
    placed = [(ink(number, 3), 10 + 14 * number, 10 + 100 * number) for number in range(4)]
    assert read(readers["cnn"], 255 - page(200, 420, *placed)) == "7210"


# What stands around them


def rules(draw: ImageDraw.ImageDraw, fall: int = 0) -> None:
    for y in range(20 - fall, 300, 40):
        draw.line((0, y, 300, y + fall), fill=110, width=2)


def grid(draw: ImageDraw.ImageDraw) -> None:
    rules(draw)
    for x in range(20, 300, 40):
        draw.line((x, 0, x, 300), fill=110, width=2)


DECORATIONS: dict[str, Callable[[ImageDraw.ImageDraw], Any]] = {
    "ring": lambda draw: draw.ellipse((50, 50, 250, 250), outline=255, width=8),
    "box": lambda draw: draw.rectangle((55, 55, 245, 245), outline=255, width=4),
    "line under it": lambda draw: draw.line((70, 235, 230, 239), fill=255, width=8),
}


@pytest.mark.parametrize("what", DECORATIONS)
@pytest.mark.parametrize("photographed", [False, True], ids=["drawn", "photographed"])
def test_what_is_drawn_around_a_digit_is_not_read(what: str, photographed: bool, readers: dict[str, Reader]) -> None:
    for number in range(20):
        picture = drawn_on(number, DECORATIONS[what])
        picture = lit(picture, number) if photographed else 255 - picture
        assert read(readers["cnn"], picture) == str(LABELS[number]), number


@pytest.mark.parametrize("lines", [rules, lambda draw: rules(draw, 16), grid], ids=["ruled", "slanted", "grid"])
def test_lines_of_the_paper_are_not_read(lines: Callable[..., Any], readers: dict[str, Reader]) -> None:
    for number in range(20):
        assert read(readers["cnn"], lit(drawn_on(number, lines), number)) == str(LABELS[number]), number


def test_lines_that_could_not_be_told_from_ink_lead_to_no_wrong_answer(readers: dict[str, Reader]) -> None:
    answers = [readers["cnn"].read(255 - drawn_on(number, grid)).summary for number in range(20)]
    assert all(answer in ("not sure", "no digit", str(LABELS[number])) for number, answer in enumerate(answers))


def test_a_sheet_on_a_dark_table_is_looked_at_without_the_table(readers: dict[str, Reader]) -> None:
    for number in range(10):
        table = np.random.default_rng(number).normal(40, 4, (400, 480))
        table[50:350, 110:370] = 235 * (1 - 0.9 * page(300, 260, (ink(number, 5), 80, 60)) / 255)
        reading = readers["cnn"].read(table.clip(0, 255).astype(np.uint8))
        (digit,) = reading.digits
        assert reading.text == str(LABELS[number])
        assert 170 <= digit.box[0] < digit.box[2] <= 310
        assert 130 <= digit.box[1] < digit.box[3] <= 270


# Nothing


def shaded(low: float, high: float, noise: float = 0) -> Array:
    across = np.broadcast_to(np.linspace(low, high, 300), (200, 300))
    return (across + np.random.default_rng(0).normal(0, noise, across.shape)).clip(0, 1)


NOTHING = {
    "white": np.full((200, 300), 255, np.uint8),
    "black": np.zeros((200, 300), np.uint8),
    "gray": np.full((200, 300), 128, np.uint8),
    "transparent": np.zeros((200, 300, 4), np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "light from the right": shaded(0.75, 0.95),
    "light from the left": shaded(0.9, 0.4),
    "faint noise": shaded(0.9, 0.9, 0.015),
    "more noise": shaded(0.9, 0.9, 0.05),
    "light and faint noise": shaded(0.75, 0.95, 0.004),
}


@pytest.mark.parametrize("what", NOTHING)
def test_where_nothing_is_written_no_digit_is_found(what: str) -> None:
    assert find_digits(load(NOTHING[what])) == []


# Pens


def inked_width(image: Array) -> float:
    """The width of the straight stroke of a 7, at its middle: a row's ink, across the stroke."""
    rows = image[12:18].sum(axis=1) / 255
    return float(rows.mean() * np.sin(np.arctan2(230, 100)))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_thin_pen_leaves_strokes_that_can_be_seen(width: int) -> None:
    (digit,) = find_digits(load(seven(width)))
    assert inked_width(digit.image) >= THIN
    assert ndimage.label(digit.image > 64, np.ones((3, 3)))[1] == 1, "broken to pieces"


@pytest.mark.parametrize("width", [2, 5, 10, 30, 50, 70])
def test_the_holes_of_an_8_stay_open_whatever_the_pen(width: int) -> None:
    (digit,) = find_digits(load(eight(width)))
    assert euler_number(digit.image > 128, 2) == -1  # one piece, two holes


def test_a_broad_pen_is_made_thinner() -> None:
    widths = [inked_width(find_digits(load(seven(width)))[0].image) for width in (10, 80)]
    assert widths[0] < widths[1] <= 7


# The rest


def photographs() -> ModuleType:
    """The benchmark, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("photographs", BENCHMARKS / "photographs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nearly_all_photographs_are_read(readers: dict[str, Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)  # it imports a neighbour
    files = itertools.islice(photographs().photographs("tuning"), 40)
    texts = [(digit, readers["cnn"].read(Image.open(io.BytesIO(file))).text) for digit, file in files]
    assert sum(text == str(digit) for digit, text in texts) >= 37


def test_finding_digits_needs_no_torch() -> None:
    code = (
        "import sys, digitnet.inference.photos.parallel; assert 'torch' not in sys.modules and 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
