"""Reads photograph-like pictures of digits: strokes of many hands, pens, papers, lights and cameras, all made here.

python benchmarks/photographs.py                    scores the pictures to tune on
python benchmarks/photographs.py --set frozen       scores the frozen ones, writes benchmarks/results/photographs.json
python benchmarks/photographs.py --show FOLDER      writes the pictures as well, named by what was read

Letters, scribbles, textures and blank paper are to be answered with no digit.
The frozen ones were hashed before anything was read in them, and scored once. It is no proof of real photographs.
"""

import argparse
import hashlib
import io
import itertools
import statistics
import string
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import measure
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from digitnet.inference.reader import DigitReader as Reader

Array = NDArray[np.float64]

COUNT = 300  # pictures of a seed, thirty a digit
ALIKE = "OoQDlIiJjSsZzBbGgqTYyA"  # of 0, 1, 5, 2, 8, 6, 9, 7 and 4
SEEDS = {"tuning": (1, 2, 3, 4, 5), "frozen": (6,)}  # 2 to 5 were frozen before; 2 to 4 have been tuned on since
HASHES = {
    "frozen": "46c138b3cc6cefd4301a1b0c98fcfb909f4f95ed9015d045caa4d43fca5037dc",
}  # SHA-256 over the pictures' files, by the versions named in the result

# Ways to write each digit: strokes through points, x right and y down in a unit box; a doubled point is a corner.
STROKES: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [
        [[(0.55, 0), (0.2, 0.15), (0.05, 0.5), (0.2, 0.9), (0.5, 1), (0.85, 0.85), (0.95, 0.5), (0.8, 0.12), (0.5, 0)]],
        [
            [
                (0.7, 0.05),
                (0.3, 0.05),
                (0.05, 0.45),
                (0.15, 0.9),
                (0.5, 1),
                (0.9, 0.7),
                (0.9, 0.3),
                (0.65, 0.03),
                (0.5, 0.08),
            ]
        ],
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
        [
            [
                (0.15, 0.2),
                (0.45, 0),
                (0.8, 0.15),
                (0.75, 0.5),
                (0.3, 0.9),
                (0.15, 0.98),
                (0.15, 0.8),
                (0.4, 0.85),
                (0.9, 1),
            ]
        ],
        [[(0.1, 0.3), (0.35, 0), (0.75, 0.1), (0.8, 0.4), (0.35, 0.8), (0.05, 0.98), (0.5, 0.92), (0.95, 0.98)]],
    ],
    3: [
        [
            [
                (0.15, 0.1),
                (0.5, 0),
                (0.8, 0.2),
                (0.65, 0.42),
                (0.4, 0.48),
                (0.4, 0.48),
                (0.8, 0.6),
                (0.85, 0.85),
                (0.5, 1),
                (0.1, 0.9),
            ]
        ],
        [[(0.15, 0), (0.85, 0), (0.85, 0), (0.45, 0.4), (0.45, 0.4), (0.85, 0.6), (0.75, 0.93), (0.4, 1), (0.1, 0.88)]],
        [[(0.2, 0.15), (0.5, 0), (0.75, 0.2), (0.4, 0.47), (0.75, 0.55), (0.8, 0.85), (0.4, 1), (0.1, 0.85)]],
    ],
    4: [
        [[(0.3, 0), (0.15, 0.35), (0.05, 0.6), (0.05, 0.6), (0.9, 0.58)], [(0.7, 0.2), (0.68, 0.6), (0.65, 1)]],
        [[(0.65, 0), (0.35, 0.35), (0.05, 0.68), (0.05, 0.68), (0.95, 0.66)], [(0.65, 0), (0.65, 0.5), (0.65, 1)]],
        [[(0.15, 0), (0.12, 0.3), (0.15, 0.5), (0.45, 0.54), (0.85, 0.45)], [(0.8, 0), (0.8, 0.5), (0.75, 1)]],
    ],
    5: [
        [
            [(0.2, 0), (0.15, 0.42), (0.15, 0.42), (0.5, 0.36), (0.85, 0.6), (0.75, 0.93), (0.4, 1), (0.1, 0.9)],
            [(0.2, 0), (0.85, 0)],
        ],
        [
            [
                (0.85, 0.02),
                (0.25, 0),
                (0.25, 0),
                (0.18, 0.45),
                (0.18, 0.45),
                (0.6, 0.38),
                (0.88, 0.65),
                (0.6, 0.98),
                (0.1, 0.92),
            ]
        ],
        [
            [
                (0.9, 0),
                (0.5, 0.02),
                (0.25, 0.1),
                (0.2, 0.4),
                (0.55, 0.45),
                (0.8, 0.65),
                (0.65, 0.92),
                (0.35, 1),
                (0.1, 0.9),
            ]
        ],
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
        [
            [
                (0.8, 0.15),
                (0.5, 0),
                (0.2, 0.18),
                (0.45, 0.45),
                (0.82, 0.72),
                (0.5, 1),
                (0.15, 0.78),
                (0.5, 0.45),
                (0.8, 0.2),
            ]
        ],
        [
            [
                (0.5, 0.45),
                (0.2, 0.25),
                (0.5, 0),
                (0.8, 0.22),
                (0.5, 0.45),
                (0.15, 0.72),
                (0.5, 1),
                (0.85, 0.75),
                (0.5, 0.45),
            ]
        ],
        [
            [
                (0.75, 0.05),
                (0.35, 0.05),
                (0.25, 0.3),
                (0.7, 0.6),
                (0.7, 0.92),
                (0.35, 0.98),
                (0.25, 0.7),
                (0.65, 0.38),
                (0.8, 0.08),
            ]
        ],
    ],
    9: [
        [[(0.8, 0.2), (0.5, 0), (0.2, 0.2), (0.3, 0.48), (0.65, 0.45), (0.82, 0.2), (0.8, 0.2), (0.78, 0.6), (0.7, 1)]],
        [
            [
                (0.8, 0.15),
                (0.45, 0.02),
                (0.15, 0.28),
                (0.4, 0.52),
                (0.8, 0.25),
                (0.8, 0.25),
                (0.8, 0.7),
                (0.5, 1),
                (0.2, 0.92),
            ]
        ],
        [[(0.75, 0.1), (0.4, 0), (0.18, 0.25), (0.45, 0.45), (0.75, 0.2), (0.65, 0.6), (0.45, 1)]],
    ],
}

PENS = {  # width as a share of the digit's height, how much of the light it takes, grain, colours
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
PAPERS = [(0.96, 0.96, 0.95)] * 6 + [
    (0.95, 0.92, 0.82),
    (0.97, 0.93, 0.6),
    (0.95, 0.75, 0.78),
    (0.7, 0.82, 0.93),
    (0.75, 0.9, 0.75),
    (0.76, 0.65, 0.5),
]
BOARDS = [(0.12, 0.25, 0.2), (0.1, 0.1, 0.11), (0.15, 0.18, 0.3)]


def smooth(points: Array, parts: int = 24) -> Array:
    """A Catmull-Rom curve through the points."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, parts, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        if np.allclose(b, c):
            continue
        a, d = (b if np.allclose(a, b) else a), (c if np.allclose(c, d) else d)
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack([*pieces, points[-1:]])


def write_digit(digit: int, random: np.random.Generator, height: float, width: float) -> NDArray[np.float64]:
    """Ink from 0 to 1 of one digit in one hand, on a tight canvas with a margin of a pen's width."""
    forms = STROKES[digit]
    strokes = [np.array(stroke) for stroke in forms[random.integers(len(forms))]]
    aspect = random.uniform(0.45, 0.95) if digit != 1 else random.uniform(0.3, 0.6)
    slant, turn = random.normal(0.08, 0.14), random.normal(0, 0.08)
    shape = np.array([[aspect, 0], [-slant, 1]]) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    wobble, tremor = random.uniform(0.01, 0.035), random.uniform(0, 0.008)
    curves = []
    for stroke in strokes:
        moved = stroke.copy()
        for number in range(len(stroke)):  # a doubled point stays one
            same = number and np.allclose(stroke[number], stroke[number - 1])
            moved[number] = moved[number - 1] if same else stroke[number] + random.normal(0, wobble, 2)
        curve = smooth(moved) @ shape * height
        shake = ndimage.gaussian_filter1d(random.normal(0, 1, curve.shape), 4, axis=0) * 4 * tremor * height
        curves.append(curve + shake)
    low = np.vstack(curves).min(axis=0) - 1.5 * width
    size = np.ceil(np.vstack(curves).max(axis=0) + 1.5 * width - low).astype(int)
    zoom = 3
    canvas = Image.new("L", (int(size[0]) * zoom, int(size[1]) * zoom))
    draw = ImageDraw.Draw(canvas)
    pressure = random.uniform(0, 0.35)
    for curve in curves:
        force = 1 + pressure * ndimage.gaussian_filter1d(random.normal(0, 1, len(curve)), 8, mode="nearest") * 3
        for (x, y), (u, v), strength in zip(curve - low, (curve - low)[1:], force, strict=False):
            radius = max(0.5, width * zoom * np.clip(strength, 0.5, 1.5) / 2)
            for share in np.linspace(0, 1, max(2, int(np.hypot(u - x, v - y) * zoom / max(1, radius / 2)))):
                cx, cy = (x + (u - x) * share) * zoom, (y + (v - y) * share) * zoom
                draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    return np.asarray(canvas.reduce(zoom), dtype=float) / 255


def noise(random: np.random.Generator, shape: tuple[int, int], sigma: float) -> Array:
    """Smooth noise, unit deviation."""
    rough = ndimage.gaussian_filter(random.normal(0, 1, shape), sigma)
    return np.asarray(rough / rough.std())


def rule(random: np.random.Generator, side: int) -> tuple[Array, Array]:
    """What is printed on the paper, 0 to 1, and its colour."""
    lines, step, kind = (
        np.zeros((side, side)),
        int(random.uniform(0.07, 0.2) * side),
        random.choice(["plain", "plain", "ruled", "ruled", "grid", "dots"]),
    )
    first, thick = int(random.integers(step)), int(random.integers(1, 3))
    for offset in range(thick):
        if kind in ("ruled", "grid"):
            lines[first + offset :: step] = 1
        if kind == "grid":
            lines[:, first + offset :: step] = 1
        if kind == "dots":
            lines[first + offset :: step, first::step] = 1
    colour = np.array([(0.5, 0.65, 0.85), (0.6, 0.6, 0.65), (0.85, 0.6, 0.6)][random.integers(3)])
    return ndimage.gaussian_filter(lines, 0.5) * random.uniform(0.4, 1), colour


def decorate(ink: Array, random: np.random.Generator, top: int, left: int, tall: int, wide: int, width: float) -> None:
    """A line under the digit, or a ring around it."""
    canvas = Image.new("L", ink.shape[::-1])
    draw, pen = ImageDraw.Draw(canvas), max(1, round(width))
    if random.random() < 0.5:
        y = top + tall + 0.12 * tall
        draw.line(
            (left - 0.2 * tall, y, left + wide + 0.2 * tall, y + random.normal(0, 0.03) * tall), fill=255, width=pen
        )
    else:
        radius, x, y = 0.5 * np.hypot(tall, wide) * 1.15, left + wide / 2, top + tall / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=pen)
    np.maximum(ink, np.asarray(canvas, dtype=float) / 255, out=ink)


def photograph(digit: int, random: np.random.Generator) -> bytes:
    """One picture, a JPEG file."""
    side = int(random.integers(260, 460))
    board = random.random() < 0.1
    pen = "felt" if board else str(random.choice(list(PENS)))
    widths, takes, grain, colours = PENS[pen]
    tall = random.uniform(0.22, 0.72) * side
    width = max(1.3, random.uniform(*widths) * tall)
    written = write_digit(digit, random, tall, width)
    high, wide = written.shape
    margin = 0.07 * side  # that the camera's turn may take
    top, left = (int(random.uniform(margin, max(margin, side - margin - extent))) for extent in written.shape)
    ink = np.zeros((side, side))
    ink[top : top + high, left : left + wide] = written[: side - top, : side - left]
    if random.random() < 0.08:
        decorate(ink, random, top, left, high, wide, width)
    texture = np.clip(1 - grain * np.abs(noise(random, (side, side), 0.8)), 0, 1)
    ink = (ink * texture * random.uniform(*takes))[..., None]
    lines, line_colour = rule(random, side)
    if board:
        paper, colour = np.array(BOARDS[random.integers(len(BOARDS))]), np.array([0.92, 0.92, 0.9])
        lines *= 0
        smear = np.clip(0.05 * noise(random, (side, side), 12), 0, 1)[..., None]
        paper = paper + smear
    else:
        paper, colour = np.array(PAPERS[random.integers(len(PAPERS))]), np.array(colours[random.integers(len(colours))])
    scene = paper * (1 + 0.01 * noise(random, (side, side), 1.0))[..., None]
    scene = scene * (1 - lines[..., None] * (1 - line_colour))
    scene = scene * (1 - ink) + colour * ink
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle, fall = random.uniform(0, 2 * np.pi), random.uniform(0, 0.55)
    light = 1 - fall * (0.5 + x * np.cos(angle) + y * np.sin(angle)).clip(0, 1)
    if random.random() < 0.35:  # of a hand, a phone
        angle, where, soft = random.uniform(0, 2 * np.pi), random.uniform(-0.3, 0.3), random.uniform(0.005, 0.08)
        light = light * (
            1 - random.uniform(0.2, 0.5) / (1 + np.exp(-(x * np.cos(angle) + y * np.sin(angle) - where) / soft))
        )
    tint = 1 + random.normal(0, 0.04, 3)
    scene = scene * light[..., None] * tint * random.uniform(0.75, 1.05)
    turn = random.normal(0, 5)
    scene = ndimage.rotate(scene, turn, reshape=False, order=1, mode="nearest")
    scene = ndimage.gaussian_filter(scene, (*[random.uniform(0.2, 1.6)] * 2, 0))
    scene = scene + random.normal(0, random.uniform(0.003, 0.03), scene.shape)
    file = io.BytesIO()
    picture(scene).save(file, "JPEG", quality=int(random.integers(50, 95)))
    return file.getvalue()


def photographs(which: str, count: int = COUNT) -> Iterator[tuple[int, bytes]]:
    """Digit and JPEG file."""
    for seed, number in itertools.product(SEEDS[which], range(count)):
        yield number % 10, photograph(number % 10, np.random.default_rng([seed, number]))


def letters() -> Iterator[tuple[str, Image.Image]]:
    """Printed in the fonts that come with matplotlib."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral"):
        font = ImageFont.truetype(folder / f"{name}.ttf", 160)
        for letter in string.ascii_letters:
            image = Image.new("L", (320, 320), 250)
            ImageDraw.Draw(image).text((160, 160), letter, fill=20, font=font, anchor="mm")
            yield ("look-alikes" if letter in ALIKE else "letters"), image


def nonsense(random: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    """Blank paper, scribbles and textures."""
    for _ in range(100):
        paper = random.uniform(0.3, 1) * (1 - random.uniform(0, 0.4) * np.linspace(0, 1, 320)) * np.ones((320, 1))
        yield "blank", picture(paper + random.normal(0, 0.015, paper.shape))
        image = Image.new("L", (320, 320), 250)
        path = ndimage.gaussian_filter1d(random.normal(0, 1, (int(random.integers(80, 400)), 2)), 5, axis=0)
        points = 160 + 110 * path / np.abs(path).max()
        ImageDraw.Draw(image).line([tuple(point) for point in points], fill=20, width=int(random.integers(3, 12)))
        yield "scribbles", image
        rough = noise(random, (320, 320), random.uniform(0.5, 20))
        yield "textures", picture(0.5 + 0.2 * rough)


def picture(scene: Array) -> Image.Image:
    return Image.fromarray((scene.clip(0, 1) * 255).round().astype(np.uint8))


def score(reader: Reader, which: str, count: int, show: Path | None) -> dict[str, Any]:
    """Shares of the photographs of digits that are read right, not at all, or as something else."""
    outcomes, whole = Counter[str](), hashlib.sha256()
    for number, (digit, file) in enumerate(photographs(which, count)):
        whole.update(file)
        read = reader.read(Image.open(io.BytesIO(file)))
        outcome = "right" if read.text == str(digit) else "wrong" if read.text.strip("?") else "not sure"
        outcomes[outcome] += 1
        if show:
            (show / f"{number:03}-is-{digit}-{outcome.replace(' ', '-')}.jpg").write_bytes(file)
    shares = {name: outcomes[name] / outcomes.total() for name in ("right", "not sure", "wrong")}
    return shares | {"the hashed pictures": whole.hexdigest() == HASHES.get(which, whole.hexdigest())}


def rejected(reader: Reader) -> dict[str, float]:
    """The share of each kind of other picture in which no digit is read."""
    answers = defaultdict[str, list[bool]](list)
    for kind, image in (*letters(), *nonsense(np.random.default_rng(3))):
        answers[kind].append(not reader.read(image).text.strip("?"))
    return {kind: statistics.mean(silent) for kind, silent in answers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--set", choices=list(SEEDS), default="tuning")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of each seed")
    parser.add_argument("--show", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=measure.RESULTS / "photographs.json")
    chosen = parser.parse_args()
    if chosen.show:
        chosen.show.mkdir(parents=True, exist_ok=True)
    scores, silent = {}, {}
    for name in ("cnn", "mlp"):
        reader = Reader(name)
        scores[name], silent[name] = score(reader, chosen.set, chosen.count, chosen.show), rejected(reader)
    shares = [(kind, *(f"{scores[name][kind]:.1%}" for name in scores)) for kind in ("right", "not sure", "wrong")]
    count = chosen.count * len(SEEDS[chosen.set])
    measure.show(f"{count} photographs, {chosen.set} | cnn | mlp", shares)
    measure.show(
        "answered with no digit | cnn | mlp", [(k, *(f"{silent[n][k]:.0%}" for n in silent)) for k in silent["cnn"]]
    )
    if chosen.set == "frozen":
        measure.write(chosen.output, {"photographs": scores, "answered with no digit": silent})


if __name__ == "__main__":
    main()
