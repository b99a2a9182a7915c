"""Tests of `detect_digits`: digits on any paper, in any light and by any pen are detected and become MNIST images."""

import io
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageDraw
from scipy import ndimage
from skimage.measure import euler_number

from benchmarks.photo_generator import generate_photographs
from digitnet.data import mnist
from digitnet.inference.photos.image_io import load_image
from digitnet.inference.photos.segment import DetectedDigit, detect_digits, detect_in
from digitnet.inference.photos.thresholds import THRESHOLDS
from digitnet.inference.reader import DigitReader

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
IMAGES = mnist.load_mnist("test")[0].numpy()
LABELS = mnist.load_mnist("test")[1].numpy()

MAX_ACCURACY_LOSS = 0.001  # of the digits: misread only because they were given as pictures

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def readers() -> dict[str, DigitReader]:
    return {name: DigitReader(name) for name in ("cnn", "mlp")}


@pytest.fixture(scope="session")
def detected() -> list[list[DetectedDigit]]:
    """Return the digits that are detected in the first 2,000 test images, given unchanged: bright on black."""
    return [detect_digits(load_image(image)) for image in IMAGES[:2000]]


def read(reader: DigitReader, picture: Any) -> str:
    """Return the most probable label of each digit, confident or not."""
    return "".join(str(each.label) for each in reader.read(picture).digits)


def min_shifted_difference(one: Array, other: Array) -> int:
    """Return the largest difference between two images, after the best shift by up to one pixel."""
    wide = np.pad(other.astype(int), 1)
    shifts = itertools.product(range(3), repeat=2)
    return min(int(np.abs(wide[down : down + 28, right : right + 28] - one).max()) for down, right in shifts)


def ink(number: int, scale: int) -> Array:
    """Return an enlarged test image, `[28 * scale, 28 * scale]`, bright on black."""
    return np.asarray(Image.fromarray(IMAGES[number]).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC))


def page(height: int, width: int, *placed: tuple[Array, int, int]) -> Array:
    """Return a page `[height, width]` with ink placed at (top, left), bright on black."""
    whole = np.zeros((height, width), np.uint8)
    for inked, top, left in placed:
        part = whole[top : top + inked.shape[0], left : left + inked.shape[1]]
        np.maximum(part, inked, out=part)
    return whole


def row(numbers: range, scale: int = 3, gap: int = 20) -> Array:
    """Return test images side by side, bright on black."""
    side = 28 * scale
    placed = [(ink(number, scale), gap, gap + place * (side + gap)) for place, number in enumerate(numbers)]
    return page(side + 2 * gap, len(numbers) * (side + gap) + gap, *placed)


def drawn_on(number: int, draw: Callable[[ImageDraw.ImageDraw], Any]) -> Array:
    """Return a test digit on which `draw` has drawn, `[300, 300]`, bright on black."""
    image = Image.fromarray(page(300, 300, (ink(number, 5), 80, 80)))
    draw(ImageDraw.Draw(image))
    return np.asarray(image)


def photographed(inked: Array, seed: int) -> Array:
    """Return dark ink on paper as a camera records it: the light decreases to one side, and there is mild noise."""
    random = np.random.default_rng(seed)
    y, x = (axis / max(inked.shape) - 0.5 for axis in np.indices(inked.shape))
    angle = random.uniform(0, 2 * np.pi)
    light = 0.9 - 0.4 * (0.5 + x * np.cos(angle) + y * np.sin(angle))
    return ((1 - 0.85 * inked / 255) * light + random.normal(0, 0.012, inked.shape)).clip(0, 1)


def transparent(inked: Array, colour: int) -> Image.Image:
    """Return ink of one gray on a transparent background."""
    pixels = np.full((*inked.shape, 4), colour, np.uint8)
    pixels[..., 3] = inked
    return Image.fromarray(pixels)


def eight(width: int) -> Image.Image:
    """Return an 8 of two ellipses, drawn with a pen of `width` pixels."""
    image = Image.new("L", (400, 400), 255)
    draw, half = ImageDraw.Draw(image), width // 2
    draw.ellipse((140 - half, 60 - half, 260 + half, 180 + half), outline=0, width=width)
    draw.ellipse((125 - half, 180 - half, 275 + half, 340 + half), outline=0, width=width)
    return image


def seven(width: int) -> Image.Image:
    """Return a 7 of two lines, drawn with a pen of `width` pixels."""
    image = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(image).line([(120, 90), (290, 90), (190, 320)], fill=0, width=width, joint="curve")
    return image


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (5, 5), (12, 12), (16, 16), (8, 1000), (1000, 8)])
def test_pictures_of_a_few_pixels_are_accepted(shape: tuple[int, int]) -> None:
    assert len(detect_digits(load_image(np.random.default_rng(1).random(shape)))) <= 1


# MNIST images as pictures


def is_unchanged(image: Array, digits: list[DetectedDigit]) -> bool:
    """Return whether exactly one digit was detected and equals the image, but for a shift and rounding."""
    return len(digits) == 1 and min_shifted_difference(image, digits[0].image) <= 3


def test_most_mnist_images_are_returned_unchanged(detected: list[list[DetectedDigit]]) -> None:
    assert all(detected[:500]), "a digit was not detected"
    assert sum(map(is_unchanged, IMAGES[:500], detected[:500])) >= 0.88 * 500


def count_correct(reader: DigitReader, detected: list[list[DetectedDigit]]) -> int:
    """Return how many pictures are read correctly; those without exactly one digit are not."""
    images = torch.from_numpy(np.stack([digits[0].image for digits in detected]))
    predicted = reader.logits(images).argmax(dim=1).numpy()
    alone = np.array([len(digits) == 1 for digits in detected])
    return int((alone & (predicted == LABELS[: len(detected)])).sum())


def count_correct_directly(reader: DigitReader, count: int) -> int:
    """Return how many of the first test images are classified correctly without detection."""
    return int((reader.logits(torch.from_numpy(IMAGES[:count])).argmax(dim=1).numpy() == LABELS[:count]).sum())


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_detection_costs_hardly_any_accuracy_on_2000_test_images(
    name: str, readers: dict[str, DigitReader], detected: list[list[DetectedDigit]]
) -> None:
    assert (
        count_correct_directly(readers[name], 2000) - count_correct(readers[name], detected)
        <= 2 * MAX_ACCURACY_LOSS * 2000
    )  # twice the limit, as the sample is small


@pytest.mark.slow
def test_detection_costs_hardly_any_accuracy_on_all_test_images(readers: dict[str, DigitReader]) -> None:
    detected = [detect_digits(load_image(image)) for image in IMAGES]
    assert all(detected)
    assert sum(map(is_unchanged, IMAGES, detected)) >= 0.88 * len(IMAGES)
    for reader in readers.values():
        assert count_correct_directly(reader, len(IMAGES)) - count_correct(reader, detected) <= MAX_ACCURACY_LOSS * len(
            IMAGES
        )


def test_digits_are_centred_on_their_mass_and_20_pixels_long() -> None:
    for number in range(100):
        for picture in (IMAGES[number], 255 - page(300, 240, (ink(number, 4), 10, 110))):
            (digit,) = detect_digits(load_image(picture))
            inked = digit.image.any(axis=1).nonzero()[0], digit.image.any(axis=0).nonzero()[0]
            assert max(map(np.ptp, inked)) + 1 == 20
            if all(places[0] > 0 and places[-1] < 27 for places in inked):
                assert np.abs(np.subtract(ndimage.center_of_mass(digit.image), 14)).max() < 1


def test_the_box_is_the_bounding_box_of_the_digit() -> None:
    picture = np.full((200, 300), 255, np.uint8)
    picture[50:150, 200:215] = 0
    (digit,) = detect_digits(load_image(picture))
    assert digit.box == (200, 50, 215, 150)


@pytest.mark.parametrize("orientation", [1, 6, 8], ids=["upright", "turned right", "turned left"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_box_is_in_pixels_of_the_upright_picture_however_large_it_is(
    name: str, orientation: int, tmp_path: Path
) -> None:
    expected = (800, 200, 860, 600)
    upright = Image.new("L", (1200, 800), 255)
    ImageDraw.Draw(upright).rectangle((800, 200, 859, 599), fill=0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright.rotate({1: 0, 6: 90, 8: 270}[orientation], expand=True).save(tmp_path / name, exif=exif)
    (digit,) = detect_in(tmp_path / name)
    assert np.abs(np.subtract(digit.box, expected)).max() <= 4
    (in_array,) = detect_in(np.asarray(upright))
    assert np.abs(np.subtract(in_array.box, expected)).max() <= 4


# The same digit in different pictures

VARIANTS: dict[str, Callable[[int], Any]] = {
    "dark on white": lambda number: 255 - IMAGES[number],
    "black on transparent paper": lambda number: transparent(IMAGES[number], 0),
    "white on transparent paper": lambda number: transparent(IMAGES[number], 255),
    "large, black on transparent paper": lambda number: transparent(ink(number, 5), 0),
    "three times larger": lambda number: ink(number, 3),
    "ten times larger": lambda number: 255 - ink(number, 10),
    "in a corner": lambda number: page(220, 300, (ink(number, 5), 0, 155)),
    "at the other side": lambda number: 255 - page(300, 220, (ink(number, 5), 155, 3)),
    "small on a large page": lambda number: 255 - page(480, 480, (ink(number, 3), 60, 300)),
    "on a page that has to be reduced": lambda number: 255 - page(1200, 900, (ink(number, 5), 60, 500)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_size_position_and_background_do_not_change_what_is_read(variant: str, readers: dict[str, DigitReader]) -> None:
    for number in range(50):
        assert read(readers["cnn"], VARIANTS[variant](number)) == read(readers["cnn"], IMAGES[number])


@pytest.mark.parametrize("side", [200, 400])
def test_uneven_light_and_noise_do_not_change_what_is_read(side: int, readers: dict[str, DigitReader]) -> None:
    same = 0
    for number in range(50):
        top, left = np.random.default_rng(number).integers(0, side - 140, 2)
        picture = photographed(page(side, side, (ink(number, 5), top, left)), number)
        same += read(readers["cnn"], picture) == read(readers["cnn"], IMAGES[number])
    assert same >= 49


def test_a_digit_that_fills_the_picture_is_read(readers: dict[str, DigitReader]) -> None:
    """Its strokes are not removed as ruled lines, although they run from one end of the picture to the other."""
    right = 0
    for number in range(50):
        written = ink(number, 5)
        tight = written[ndimage.find_objects((written > 128).astype(int))[0]]
        right += read(readers["cnn"], 255 - tight) == str(LABELS[number])
    assert right >= 45


# Several digits


def test_a_row_is_read_from_left_to_right(readers: dict[str, DigitReader]) -> None:
    right = sum(
        read(readers["cnn"], 255 - row(range(first, first + 5))) == "".join(map(str, LABELS[first : first + 5]))
        for first in range(0, 100, 5)
    )
    assert right >= 19


def test_two_rows_are_read_from_top_to_bottom(readers: dict[str, DigitReader]) -> None:
    right = 0
    for first in range(0, 120, 6):
        rows = np.vstack([row(range(first, first + 3)), row(range(first + 3, first + 6))])
        right += read(readers["cnn"], rows) == "".join(map(str, LABELS[first : first + 6]))
    assert right >= 19


def test_a_row_that_slopes_down_is_read_as_one_row(readers: dict[str, DigitReader]) -> None:
    placed = [(ink(number, 3), 10 + 14 * number, 10 + 100 * number) for number in range(4)]
    assert read(readers["cnn"], 255 - page(200, 420, *placed)) == "7210"


# Surroundings of a digit


def rules(draw: ImageDraw.ImageDraw, fall: int = 0) -> None:
    """Draw ruled lines that fall by some pixels from left to right."""
    for y in range(20 - fall, 300, 40):
        draw.line((0, y, 300, y + fall), fill=110, width=2)


def grid(draw: ImageDraw.ImageDraw) -> None:
    """Draw the lines of squared paper."""
    rules(draw)
    for x in range(20, 300, 40):
        draw.line((x, 0, x, 300), fill=110, width=2)


DECORATIONS: dict[str, Callable[[ImageDraw.ImageDraw], Any]] = {
    "ring": lambda draw: draw.ellipse((50, 50, 250, 250), outline=255, width=8),
    "box": lambda draw: draw.rectangle((55, 55, 245, 245), outline=255, width=4),
    "line under it": lambda draw: draw.line((70, 235, 230, 239), fill=255, width=8),
}


@pytest.mark.parametrize("decoration", DECORATIONS)
@pytest.mark.parametrize("as_photo", [False, True], ids=["drawn", "photographed"])
def test_rings_boxes_and_underlines_are_not_read(
    decoration: str, as_photo: bool, readers: dict[str, DigitReader]
) -> None:
    for number in range(20):
        picture = drawn_on(number, DECORATIONS[decoration])
        picture = photographed(picture, number) if as_photo else 255 - picture
        assert read(readers["cnn"], picture) == str(LABELS[number]), number


@pytest.mark.parametrize("lines", [rules, lambda draw: rules(draw, 16), grid], ids=["ruled", "slanted", "grid"])
def test_ruled_lines_and_grids_are_not_read(lines: Callable[..., Any], readers: dict[str, DigitReader]) -> None:
    for number in range(20):
        assert read(readers["cnn"], photographed(drawn_on(number, lines), number)) == str(LABELS[number]), number


def test_sharp_grid_lines_that_look_like_ink_lead_to_no_wrong_answer(readers: dict[str, DigitReader]) -> None:
    answers = [readers["cnn"].read(255 - drawn_on(number, grid)).summary for number in range(20)]
    assert all(answer in ("not sure", "no digit", str(LABELS[number])) for number, answer in enumerate(answers))


def test_a_digit_on_a_sheet_on_a_dark_table_is_read(readers: dict[str, DigitReader]) -> None:
    for number in range(10):
        table = np.random.default_rng(number).normal(40, 4, (400, 480))
        table[50:350, 110:370] = 235 * (1 - 0.9 * page(300, 260, (ink(number, 5), 80, 60)) / 255)
        reading = readers["cnn"].read(table.clip(0, 255).astype(np.uint8))
        (digit,) = reading.digits
        assert reading.text == str(LABELS[number])
        assert 170 <= digit.box[0] < digit.box[2] <= 310
        assert 130 <= digit.box[1] < digit.box[3] <= 270


# Pictures without digits


def shaded(low: float, high: float, noise: float = 0) -> Array:
    """Return a picture whose brightness changes evenly from left to right, with noise of a standard deviation."""
    across = np.broadcast_to(np.linspace(low, high, 300), (200, 300))
    return (across + np.random.default_rng(0).normal(0, noise, across.shape)).clip(0, 1)


BLANK = {
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


@pytest.mark.parametrize("name", BLANK)
def test_no_digit_is_detected_in_a_blank_picture(name: str) -> None:
    assert detect_digits(load_image(BLANK[name])) == []


# Pens


def stroke_width(image: Array) -> float:
    """Return the width of the slanted stroke of a 7: the ink of a row, projected across the stroke."""
    rows = image[12:18].sum(axis=1) / 255
    return float(rows.mean() * np.sin(np.arctan2(230, 100)))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_strokes_of_a_thin_pen_are_thickened(width: int) -> None:
    (digit,) = detect_digits(load_image(seven(width)))
    assert stroke_width(digit.image) >= THRESHOLDS.min_pen_width
    assert ndimage.label(digit.image > 64, np.ones((3, 3)))[1] == 1, "the digit is not connected"


@pytest.mark.parametrize("width", [2, 5, 10, 30, 50, 70])
def test_the_holes_of_an_8_stay_open_with_pens_of_any_width(width: int) -> None:
    (digit,) = detect_digits(load_image(eight(width)))
    assert euler_number(digit.image > 128, 2) == -1  # one component with two holes


def test_strokes_of_a_broad_pen_are_at_most_7_pixels_wide() -> None:
    widths = [stroke_width(detect_digits(load_image(seven(width)))[0].image) for width in (10, 80)]
    assert widths[0] < widths[1] <= 7


# Photographs and imports


def test_37_of_40_synthetic_photographs_are_read_correctly(
    readers: dict[str, DigitReader],
) -> None:
    files = itertools.islice(generate_photographs("tuning"), 40)
    texts = [(digit, readers["cnn"].read(Image.open(io.BytesIO(file))).text) for digit, file in files]
    assert sum(text == str(digit) for digit, text in texts) >= 37


def test_detection_does_not_import_torch() -> None:
    code = (
        "import sys, digitnet.inference.photos.parallel; assert 'torch' not in sys.modules and 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
