"""Generate photograph-like pictures of handwritten digits, and pictures that contain no digit.

The pictures are drawn from strokes of many hands, pens, papers, lights and cameras; nothing is downloaded. The module
is used by `photographs.py`, `image_throughput.py` and the tests. A picture depends only on its seed and on the versions
of numpy, scipy and Pillow.
"""

import io
import itertools
import string
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Array = NDArray[np.float64]
RGB = tuple[float, float, float]
Range = tuple[float, float]

PHOTOS_PER_SEED = 300  # thirty of each digit
PHOTO_SETS = {"tuning": (1, 2, 3, 4, 5), "frozen": (6,)}
"""Seeds of each set. Seeds 2 to 5 were frozen before; 2 to 4 have been used for tuning since."""

LOOK_ALIKES = "OoQDlIiJjSsZzBbGgqTYyA"
"""Letters that look like 0, 1, 5, 2, 8, 6, 9, 7 and 4."""

LETTER_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral")
LETTER_FONT_SIZE = 160
NEGATIVE_SIDE = 320  # pixels of the pictures without a digit
NEGATIVE_PAPER, NEGATIVE_INK = 250, 20  # grey levels of letters and scribbles
NEGATIVES_PER_KIND = 100

SUPERSAMPLING = 3  # strokes are drawn this many times larger and then reduced
POINTS_PER_SEGMENT = 24  # of a curve between two points of a stroke
BOARD_PROBABILITY = 0.1  # of a blackboard instead of paper
DECORATION_PROBABILITY = 0.08  # of a line below the digit or a ring around it
SHADOW_PROBABILITY = 0.35

# fmt: off
STROKES: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [
        [[(0.55, 0), (0.2, 0.15), (0.05, 0.5), (0.2, 0.9), (0.5, 1), (0.85, 0.85), (0.95, 0.5), (0.8, 0.12),
          (0.5, 0)]],
        [[(0.7, 0.05), (0.3, 0.05), (0.05, 0.45), (0.15, 0.9), (0.5, 1), (0.9, 0.7), (0.9, 0.3), (0.65, 0.03),
          (0.5, 0.08)]],
        [[(0.4, 0.02), (0.1, 0.3), (0.1, 0.7), (0.45, 1), (0.8, 0.75), (0.85, 0.3), (0.55, 0), (0.35, 0.04)]],
    ],
    1: [
        [[(0.5, 0), (0.5, 0.5), (0.5, 1)]],
        [[(0.25, 0.25), (0.4, 0.15), (0.55, 0), (0.55, 0), (0.55, 0.5), (0.55, 1)]],
        [[(0.3, 0.2), (0.55, 0), (0.55, 0), (0.55, 1)], [(0.3, 1), (0.8, 1)]],
        [[(0.6, 0), (0.5, 0.5), (0.42, 1)]],
    ],
    2: [
        [[(0.1, 0.25), (0.3, 0.02), (0.7, 0.03), (0.85, 0.3), (0.6, 0.6), (0.1, 1), (0.1, 1), (0.9, 1)]],
        [[(0.15, 0.2), (0.45, 0), (0.8, 0.15), (0.75, 0.5), (0.3, 0.9), (0.15, 0.98), (0.15, 0.8), (0.4, 0.85),
          (0.9, 1)]],
        [[(0.1, 0.3), (0.35, 0), (0.75, 0.1), (0.8, 0.4), (0.35, 0.8), (0.05, 0.98), (0.5, 0.92), (0.95, 0.98)]],
    ],
    3: [
        [[(0.15, 0.1), (0.5, 0), (0.8, 0.2), (0.65, 0.42), (0.4, 0.48), (0.4, 0.48), (0.8, 0.6), (0.85, 0.85),
          (0.5, 1), (0.1, 0.9)]],
        [[(0.15, 0), (0.85, 0), (0.85, 0), (0.45, 0.4), (0.45, 0.4), (0.85, 0.6), (0.75, 0.93), (0.4, 1),
          (0.1, 0.88)]],
        [[(0.2, 0.15), (0.5, 0), (0.75, 0.2), (0.4, 0.47), (0.75, 0.55), (0.8, 0.85), (0.4, 1), (0.1, 0.85)]],
    ],
    4: [
        [[(0.3, 0), (0.15, 0.35), (0.05, 0.6), (0.05, 0.6), (0.9, 0.58)], [(0.7, 0.2), (0.68, 0.6), (0.65, 1)]],
        [[(0.65, 0), (0.35, 0.35), (0.05, 0.68), (0.05, 0.68), (0.95, 0.66)], [(0.65, 0), (0.65, 0.5), (0.65, 1)]],
        [[(0.15, 0), (0.12, 0.3), (0.15, 0.5), (0.45, 0.54), (0.85, 0.45)], [(0.8, 0), (0.8, 0.5), (0.75, 1)]],
    ],
    5: [
        [[(0.2, 0), (0.15, 0.42), (0.15, 0.42), (0.5, 0.36), (0.85, 0.6), (0.75, 0.93), (0.4, 1),
          (0.1, 0.9)], [(0.2, 0), (0.85, 0)]],
        [[(0.85, 0.02), (0.25, 0), (0.25, 0), (0.18, 0.45), (0.18, 0.45), (0.6, 0.38), (0.88, 0.65), (0.6, 0.98),
          (0.1, 0.92)]],
        [[(0.9, 0), (0.5, 0.02), (0.25, 0.1), (0.2, 0.4), (0.55, 0.45), (0.8, 0.65), (0.65, 0.92), (0.35, 1),
          (0.1, 0.9)]],
    ],
    6: [
        [[(0.7, 0), (0.35, 0.25), (0.12, 0.65), (0.3, 0.97), (0.7, 0.95), (0.82, 0.7), (0.55, 0.52), (0.2, 0.65)]],
        [[(0.55, 0), (0.2, 0.4), (0.12, 0.75), (0.4, 1), (0.8, 0.85), (0.75, 0.6), (0.45, 0.52), (0.15, 0.75)]],
        [[(0.85, 0.08), (0.5, 0.02), (0.15, 0.45), (0.2, 0.9), (0.6, 1), (0.88, 0.75), (0.6, 0.5), (0.18, 0.62)]],
    ],
    7: [
        [[(0.1, 0.02), (0.9, 0), (0.9, 0), (0.6, 0.45), (0.4, 1)]],
        [[(0.1, 0.05), (0.5, 0.02), (0.9, 0.02), (0.9, 0.02), (0.55, 0.5), (0.4, 1)], [(0.3, 0.52), (0.8, 0.48)]],
        [[(0.1, 0.2), (0.12, 0.04), (0.12, 0.04), (0.85, 0.04), (0.85, 0.04), (0.55, 0.5), (0.5, 1)]],
    ],
    8: [
        [[(0.8, 0.15), (0.5, 0), (0.2, 0.18), (0.45, 0.45), (0.82, 0.72), (0.5, 1), (0.15, 0.78), (0.5, 0.45),
          (0.8, 0.2)]],
        [[(0.5, 0.45), (0.2, 0.25), (0.5, 0), (0.8, 0.22), (0.5, 0.45), (0.15, 0.72), (0.5, 1), (0.85, 0.75),
          (0.5, 0.45)]],
        [[(0.75, 0.05), (0.35, 0.05), (0.25, 0.3), (0.7, 0.6), (0.7, 0.92), (0.35, 0.98), (0.25, 0.7),
          (0.65, 0.38), (0.8, 0.08)]],
    ],
    9: [
        [[(0.8, 0.2), (0.5, 0), (0.2, 0.2), (0.3, 0.48), (0.65, 0.45), (0.82, 0.2), (0.8, 0.2), (0.78, 0.6),
          (0.7, 1)]],
        [[(0.8, 0.15), (0.45, 0.02), (0.15, 0.28), (0.4, 0.52), (0.8, 0.25), (0.8, 0.25), (0.8, 0.7), (0.5, 1),
          (0.2, 0.92)]],
        [[(0.75, 0.1), (0.4, 0), (0.18, 0.25), (0.45, 0.45), (0.75, 0.2), (0.65, 0.6), (0.45, 1)]],
    ],
}
# fmt: on
"""Ways to write each digit: strokes through points, x right and y down in a unit box; a doubled point is a corner."""

PENS: dict[str, tuple[Range, Range, float, list[RGB]]] = {
    "ballpoint": (
        (0.012, 0.03),
        (0.6, 0.9),
        0.15,
        [(0.1, 0.15, 0.55), (0.08, 0.08, 0.1), (0.7, 0.1, 0.15), (0.1, 0.4, 0.2)],
    ),
    "pencil": ((0.015, 0.04), (0.3, 0.6), 0.5, [(0.25, 0.25, 0.27)]),
    "felt": (
        (0.04, 0.08),
        (0.8, 0.97),
        0.05,
        [(0.05, 0.05, 0.07), (0.1, 0.1, 0.5), (0.75, 0.08, 0.1), (0.05, 0.35, 0.15)],
    ),
    "marker": ((0.09, 0.17), (0.85, 0.98), 0.05, [(0.04, 0.04, 0.05), (0.1, 0.15, 0.6), (0.7, 0.05, 0.08)]),
    "brush": ((0.05, 0.14), (0.7, 0.95), 0.2, [(0.08, 0.06, 0.06), (0.3, 0.12, 0.05)]),
}
"""Width as a fraction of the height of the digit, fraction of the light that the ink absorbs, grain, colors."""

PAPERS: list[RGB] = [(0.96, 0.96, 0.95)] * 6 + [
    (0.95, 0.92, 0.82),
    (0.97, 0.93, 0.6),
    (0.95, 0.75, 0.78),
    (0.7, 0.82, 0.93),
    (0.75, 0.9, 0.75),
    (0.76, 0.65, 0.5),
]
BOARDS: list[RGB] = [(0.12, 0.25, 0.2), (0.1, 0.1, 0.11), (0.15, 0.18, 0.3)]
CHALK: RGB = (0.92, 0.92, 0.9)
RULE_COLORS: list[RGB] = [(0.5, 0.65, 0.85), (0.6, 0.6, 0.65), (0.85, 0.6, 0.6)]
RULINGS = ["plain", "plain", "ruled", "ruled", "grid", "dots"]


def draw_photograph(digit: int, rng: np.random.Generator) -> bytes:
    """Draw a photograph of one handwritten digit.

    Args:
        digit: The digit to write, 0 to 9.
        rng: Source of all that differs between photographs.

    Returns:
        The content of a JPEG file.
    """
    side = int(rng.integers(260, 460))
    on_board = rng.random() < BOARD_PROBABILITY
    pen = "felt" if on_board else str(rng.choice(list(PENS)))
    _, absorption, grain, colors = PENS[pen]
    ink = _write_on_page(digit, rng, side, pen)
    texture = np.clip(1 - grain * np.abs(_smooth_noise(rng, (side, side), 0.8)), 0, 1)
    ink = (ink * texture * rng.uniform(*absorption))[..., None]
    rules, rule_color = _draw_rules(rng, side)
    if on_board:
        paper, color = np.array(BOARDS[rng.integers(len(BOARDS))]), np.array(CHALK)
        rules *= 0
        smear = np.clip(0.05 * _smooth_noise(rng, (side, side), 12), 0, 1)[..., None]
        paper = paper + smear
    else:
        paper, color = np.array(PAPERS[rng.integers(len(PAPERS))]), np.array(colors[rng.integers(len(colors))])
    scene = paper * (1 + 0.01 * _smooth_noise(rng, (side, side), 1.0))[..., None]
    scene = scene * (1 - rules[..., None] * (1 - rule_color))
    scene = scene * (1 - ink) + color * ink
    return _take_photograph(_illuminate(scene, rng), rng)


def generate_photographs(photo_set: str, count: int = PHOTOS_PER_SEED) -> Iterator[tuple[int, bytes]]:
    """Generate the photographs of a set.

    Args:
        photo_set: A key of `PHOTO_SETS`.
        count: Photographs of each seed of the set.

    Yields:
        The digit and the content of a JPEG file.
    """
    for seed, number in itertools.product(PHOTO_SETS[photo_set], range(count)):
        yield number % 10, draw_photograph(number % 10, np.random.default_rng([seed, number]))


def generate_letters() -> Iterator[tuple[str, Image.Image]]:
    """Generate printed letters, in fonts that are bundled with matplotlib.

    Yields:
        "look_alikes" for letters that look like a digit, else "letters", and the picture.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    center = (NEGATIVE_SIDE // 2, NEGATIVE_SIDE // 2)
    for name in LETTER_FONTS:
        font = ImageFont.truetype(folder / f"{name}.ttf", LETTER_FONT_SIZE)
        for letter in string.ascii_letters:
            image = Image.new("L", (NEGATIVE_SIDE, NEGATIVE_SIDE), NEGATIVE_PAPER)
            ImageDraw.Draw(image).text(center, letter, fill=NEGATIVE_INK, font=font, anchor="mm")
            yield ("look_alikes" if letter in LOOK_ALIKES else "letters"), image


def generate_non_digits(rng: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    """Generate blank papers, scribbles and textures.

    Args:
        rng: Source of all that differs between the pictures.

    Yields:
        The kind ("blank", "scribbles" or "textures") and the picture.
    """
    side = NEGATIVE_SIDE
    for _ in range(NEGATIVES_PER_KIND):
        paper = rng.uniform(0.3, 1) * (1 - rng.uniform(0, 0.4) * np.linspace(0, 1, side)) * np.ones((side, 1))
        yield "blank", _to_image(paper + rng.normal(0, 0.015, paper.shape))
        image = Image.new("L", (side, side), NEGATIVE_PAPER)
        path = ndimage.gaussian_filter1d(rng.normal(0, 1, (int(rng.integers(80, 400)), 2)), 5, axis=0)
        points = side // 2 + 110 * path / np.abs(path).max()
        width = int(rng.integers(3, 12))
        ImageDraw.Draw(image).line([tuple(point) for point in points], fill=NEGATIVE_INK, width=width)
        yield "scribbles", image
        rough = _smooth_noise(rng, (side, side), rng.uniform(0.5, 20))
        yield "textures", _to_image(0.5 + 0.2 * rough)


def _catmull_rom(points: Array) -> Array:
    """Return a Catmull-Rom curve through the points, `[M, 2]`, with a corner at each doubled point."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, POINTS_PER_SEGMENT, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        if np.allclose(b, c):
            continue
        a, d = (b if np.allclose(a, b) else a), (c if np.allclose(c, d) else d)
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack([*pieces, points[-1:]])


def _handwritten_curves(digit: int, rng: np.random.Generator, height: float) -> list[Array]:
    """Return the strokes of a digit in one hand, as curves in pixels, `[M, 2]` each."""
    forms = STROKES[digit]
    strokes = [np.array(stroke) for stroke in forms[rng.integers(len(forms))]]
    aspect = rng.uniform(0.45, 0.95) if digit != 1 else rng.uniform(0.3, 0.6)
    slant, turn = rng.normal(0.08, 0.14), rng.normal(0, 0.08)
    shape = np.array([[aspect, 0], [-slant, 1]]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    wobble, tremor = rng.uniform(0.01, 0.035), rng.uniform(0, 0.008)
    curves = []
    for stroke in strokes:
        moved = stroke.copy()
        for number in range(len(stroke)):  # a doubled point stays doubled
            same = number and np.allclose(stroke[number], stroke[number - 1])
            moved[number] = moved[number - 1] if same else stroke[number] + rng.normal(0, wobble, 2)
        curve = _catmull_rom(moved) @ shape * height
        shake = ndimage.gaussian_filter1d(rng.normal(0, 1, curve.shape), 4, axis=0) * 4 * tremor * height
        curves.append(curve + shake)
    return curves


def _write_digit(digit: int, rng: np.random.Generator, height: float, width: float) -> Array:
    """Return the ink, 0 to 1, of one digit on a tight canvas with a margin of 1.5 pen widths."""
    curves = _handwritten_curves(digit, rng, height)
    low = np.vstack(curves).min(axis=0) - 1.5 * width
    size = np.ceil(np.vstack(curves).max(axis=0) + 1.5 * width - low).astype(int)
    zoom = SUPERSAMPLING
    canvas = Image.new("L", (int(size[0]) * zoom, int(size[1]) * zoom))
    draw = ImageDraw.Draw(canvas)
    pressure = rng.uniform(0, 0.35)
    for curve in curves:
        force = 1 + pressure * ndimage.gaussian_filter1d(rng.normal(0, 1, len(curve)), 8, mode="nearest") * 3
        for (x, y), (u, v), strength in zip(curve - low, (curve - low)[1:], force, strict=False):
            radius = max(0.5, width * zoom * np.clip(strength, 0.5, 1.5) / 2)
            for fraction in np.linspace(0, 1, max(2, int(np.hypot(u - x, v - y) * zoom / max(1, radius / 2)))):
                cx, cy = (x + (u - x) * fraction) * zoom, (y + (v - y) * fraction) * zoom
                draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    return np.asarray(canvas.reduce(zoom), dtype=float) / 255


def _write_on_page(digit: int, rng: np.random.Generator, side: int, pen: str) -> Array:
    """Return the ink, `[side, side]`, of one digit somewhere on the page, sometimes underlined or circled."""
    height = rng.uniform(0.22, 0.72) * side
    width = max(1.3, rng.uniform(*PENS[pen][0]) * height)
    written = _write_digit(digit, rng, height, width)
    tall, wide = written.shape
    margin = 0.07 * side  # the rotation of the camera may cut it off
    top, left = (int(rng.uniform(margin, max(margin, side - margin - extent))) for extent in written.shape)
    ink = np.zeros((side, side))
    ink[top : top + tall, left : left + wide] = written[: side - top, : side - left]
    if rng.random() < DECORATION_PROBABILITY:
        _decorate(ink, rng, top, left, tall, wide, width)
    return ink


def _decorate(ink: Array, rng: np.random.Generator, top: int, left: int, tall: int, wide: int, width: float) -> None:
    """Draw a line below the digit, or a ring around it, into the ink."""
    canvas = Image.new("L", ink.shape[::-1])
    draw, pen = ImageDraw.Draw(canvas), max(1, round(width))
    if rng.random() < 0.5:
        y = top + tall + 0.12 * tall
        ends = (left - 0.2 * tall, y, left + wide + 0.2 * tall, y + rng.normal(0, 0.03) * tall)
        draw.line(ends, fill=255, width=pen)
    else:
        radius, x, y = 0.5 * np.hypot(tall, wide) * 1.15, left + wide / 2, top + tall / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=pen)
    np.maximum(ink, np.asarray(canvas, dtype=float) / 255, out=ink)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Array:
    """Return Gaussian noise, smoothed by `sigma` pixels and scaled to unit standard deviation."""
    rough = ndimage.gaussian_filter(rng.normal(0, 1, shape), sigma)
    return np.asarray(rough / rough.std())


def _draw_rules(rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """Return the lines that are printed on the paper, 0 to 1, and their color."""
    lines = np.zeros((side, side))
    spacing = int(rng.uniform(0.07, 0.2) * side)
    ruling = rng.choice(RULINGS)
    first, thickness = int(rng.integers(spacing)), int(rng.integers(1, 3))
    for offset in range(thickness):
        if ruling in ("ruled", "grid"):
            lines[first + offset :: spacing] = 1
        if ruling == "grid":
            lines[:, first + offset :: spacing] = 1
        if ruling == "dots":
            lines[first + offset :: spacing, first::spacing] = 1
    color = np.array(RULE_COLORS[rng.integers(len(RULE_COLORS))])
    return ndimage.gaussian_filter(lines, 0.5) * rng.uniform(0.4, 1), color


def _illuminate(scene: Array, rng: np.random.Generator) -> Array:
    """Return the scene, `[side, side, 3]`, in uneven light, sometimes with the shadow of a hand or a phone."""
    side = len(scene)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle, falloff = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.55)
    light = 1 - falloff * (0.5 + x * np.cos(angle) + y * np.sin(angle)).clip(0, 1)
    if rng.random() < SHADOW_PROBABILITY:
        angle, position, softness = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(0.005, 0.08)
        light = light * (
            1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-(x * np.cos(angle) + y * np.sin(angle) - position) / softness))
        )
    tint = 1 + rng.normal(0, 0.04, 3)
    return np.asarray(scene * light[..., None] * tint * rng.uniform(0.75, 1.05))


def _take_photograph(scene: Array, rng: np.random.Generator) -> bytes:
    """Return a JPEG file of the scene, with the rotation, blur and noise of a camera."""
    scene = ndimage.rotate(scene, rng.normal(0, 5), reshape=False, order=1, mode="nearest")
    scene = ndimage.gaussian_filter(scene, (*[rng.uniform(0.2, 1.6)] * 2, 0))
    scene = scene + rng.normal(0, rng.uniform(0.003, 0.03), scene.shape)
    file = io.BytesIO()
    _to_image(scene).save(file, "JPEG", quality=int(rng.integers(50, 95)))
    return file.getvalue()


def _to_image(scene: Array) -> Image.Image:
    """Return an 8-bit image of values from 0 to 1."""
    return Image.fromarray((scene.clip(0, 1) * 255).round().astype(np.uint8))
