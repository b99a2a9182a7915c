"""Finds the digits in a picture and makes of each what MNIST would have made: 28 × 28, bright ink on black."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from digitnet.inference.photos.image_io import Picture
from digitnet.inference.photos.ink import Gray, Mask, find_ink, find_strokes
from digitnet.inference.photos.normalize import to_mnist

GLANCE = 240  # pixels of the longest side, more or less, that show most digits
CLEAR = 60  # pixels of height there, three times what is made of it: others are looked at more closely
SMALLEST = 0.03  # of the picture: the height of a digit
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Found:
    """One digit: its image `[28, 28]` uint8, bright on black, and where it stands in the picture."""

    image: NDArray[np.uint8]
    box: Box  # left, top, right, bottom, in pixels of the picture


@dataclass
class Piece:
    """Connected ink, or what several pieces of ink make up: their labels and the box around them."""

    labels: list[int]
    area: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def gaps(self, other: "Piece") -> tuple[int, int]:
        """Pixels between the two, across and down; below 0 where they overlap."""
        across = max(self.left, other.left) - min(self.right, other.right)
        return across, max(self.top, other.top) - min(self.bottom, other.bottom)

    def contains(self, other: "Piece") -> bool:
        within = self.top < other.top and other.bottom < self.bottom
        return within and self.left < other.left and other.right < self.right

    def take(self, other: "Piece") -> None:
        self.labels += other.labels
        self.area += other.area
        self.top, self.left = min(self.top, other.top), min(self.left, other.left)
        self.bottom, self.right = max(self.bottom, other.bottom), max(self.right, other.right)


def find_digits(picture: Picture) -> list[Found]:
    """In the order of reading: left to right, top to bottom."""
    gray = np.einsum("hwc,c->hw", picture, LUMINANCE)  # a matrix product would start threads for this
    step = round(max(gray.shape) / GLANCE)
    if step > 1:
        found = digits_in(np.asarray(Image.fromarray(gray).reduce(step)), step)
        if any(digit.box[3] - digit.box[1] >= step * CLEAR for digit in found):
            return found
    return digits_in(gray)


def digits_in(gray: Gray, step: int = 1) -> list[Found]:
    """Those in what is left of a picture that was reduced by the step."""
    ink, even = find_ink(gray)
    strokes = without_rings(find_strokes(ink))
    reach = max(gray.shape) // 150  # of a pen that skips
    labels, _ = ndimage.label(ndimage.maximum_filter(strokes, 2 * reach + 1), np.ones((3, 3)))
    labels *= strokes
    pieces = strokes_of_digits(labels, even)
    found = []
    for digit in in_reading_order(put_together(pieces)):
        window = tuple(
            slice(max(0, start - 1), stop + 1) for start, stop in ((digit.top, digit.bottom), (digit.left, digit.right))
        )
        mask = np.isin(labels[window], digit.labels)
        box = step * digit.left, step * digit.top, step * digit.right, step * digit.bottom
        found.append(Found(to_mnist(ink[window], mask, even), box))
    return found


def pieces_of(labels: NDArray[np.signedinteger]) -> list[Piece]:
    """All connected ink but for specks."""
    areas = np.bincount(labels.ravel()).tolist()
    boxes = enumerate(ndimage.find_objects(labels), start=1)
    found = [Piece([n], areas[n], box[0].start, box[1].start, box[0].stop, box[1].stop) for n, box in boxes]
    return [piece for piece in found if piece.area > 0.02 * max(areas[1:])]


def without_rings(strokes: Mask) -> Mask:
    """Without what is drawn around a digit."""
    labels, _ = ndimage.label(ndimage.maximum_filter(strokes, 3), np.ones((3, 3)))
    labels *= strokes
    pieces = pieces_of(labels)
    rings = [piece.labels[0] for piece in pieces if any(is_ring(piece, other) for other in pieces)]
    return strokes & ~np.isin(labels, rings) if rings else strokes


def strokes_of_digits(labels: NDArray[np.signedinteger], even: bool) -> list[Piece]:
    """The pieces but for what leaves a photograph, and underlines."""
    height, width = labels.shape
    pieces = pieces_of(labels)
    if not even:
        inside = [p for p in pieces if p.top > 0 and p.left > 0 and p.bottom < height and p.right < width]
        cropped = [p for p in pieces if p not in inside and min(p.height, p.width) > 0.05 * max(labels.shape)]
        pieces = inside if any(piece.height > 0.1 * height for piece in inside) else inside + cropped
    pieces = [piece for piece in pieces if not any(is_line_under(piece, other) for other in pieces)]
    return pieces if max((piece.height for piece in pieces), default=0) > SMALLEST * max(labels.shape) else []


def is_ring(piece: Piece, other: Piece) -> bool:
    return piece.contains(other) and other.height > 0.35 * piece.height


def is_line_under(piece: Piece, other: Piece) -> bool:
    across, down = piece.gaps(other)
    below = piece.top > other.bottom - 0.1 * other.height and down < other.height
    return piece.width > 4 * piece.height and below and across < -0.4 * min(piece.width, other.width)


def put_together(pieces: list[Piece]) -> list[Piece]:
    """The digits; what is far smaller than the tallest or has far less ink than the boldest is none."""
    digits: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: -piece.height):
        whole = next((digit for digit in digits if belongs(piece, digit, digits[0].height)), None)
        if whole is None:
            digits.append(piece)
        else:
            whole.take(piece)
    if len(digits) < len(pieces):
        return put_together(digits)
    most = max((digit.area for digit in digits), default=0)
    return [digit for digit in digits if digit.height > 0.4 * digits[0].height and digit.area > 0.12 * most]


def belongs(piece: Piece, digit: Piece, tall: int) -> bool:
    """Whether it is a part of the digit that the pen did not quite join, such as the roof of a 5."""
    across, down = digit.gaps(piece)
    if down < -0.5 * min(piece.height, digit.height):  # side by side, as two digits may be
        slanted = 0.25 * min(piece.width, digit.width) if piece.height > 0.6 * digit.height else -0.04 * tall
        return across < -slanted
    whole = max(piece.bottom, digit.bottom) - min(piece.top, digit.top)
    small = piece.height < 0.6 * digit.height
    return across <= (0 if small else 0.1 * tall) and down <= (0.2 if small else 0.13) * whole


def in_reading_order(digits: list[Piece]) -> list[Piece]:
    rows: list[list[Piece]] = []
    for digit in sorted(digits, key=lambda digit: digit.top):
        middle = (digit.top + digit.bottom) / 2
        row = next((row for row in rows if row[0].top < middle < row[0].bottom), None)
        if row is None:
            rows.append([digit])
        else:
            row.append(digit)
    return [digit for row in rows for digit in sorted(row, key=lambda digit: digit.left)]
