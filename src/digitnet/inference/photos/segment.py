"""Detect the digits in a picture and convert each to an MNIST image: 28 × 28, bright ink on black."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from digitnet.inference.photos.filters import Mask, dilate
from digitnet.inference.photos.image_io import Picture, load_with_size
from digitnet.inference.photos.ink import Gray, find_ink, find_strokes
from digitnet.inference.photos.normalize import to_mnist
from digitnet.inference.photos.thresholds import THRESHOLDS

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow

ENCLOSURE_GAP = 3  # pixels of the square that joins the parts of a ring or a box

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels; right and bottom are exclusive
Labels = NDArray[np.signedinteger]  # [height, width]; 0 is background


@dataclass(frozen=True, eq=False)
class DetectedDigit:
    """A digit that was detected in a picture."""

    image: NDArray[np.uint8]
    """The digit as an MNIST image `[28, 28]`, bright on black."""
    box: Box
    """Where the digit stands: left, top, right, bottom, in pixels of the picture."""


@dataclass
class _Component:
    """A connected component of ink, or several that were merged, with their bounding box in pixels."""

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

    def gap_to(self, other: "_Component") -> tuple[int, int]:
        """Return the horizontal and the vertical gap in pixels; negative where the two overlap."""
        across = max(self.left, other.left) - min(self.right, other.right)
        return across, max(self.top, other.top) - min(self.bottom, other.bottom)

    def contains(self, other: "_Component") -> bool:
        """Return whether the other box lies strictly inside this one."""
        within = self.top < other.top and other.bottom < self.bottom
        return within and self.left < other.left and other.right < self.right

    def merge(self, other: "_Component") -> None:
        """Add another component to this one."""
        self.labels += other.labels
        self.area += other.area
        self.top, self.left = min(self.top, other.top), min(self.left, other.left)
        self.bottom, self.right = max(self.bottom, other.bottom), max(self.right, other.right)


def detect_in(source: str | Path | Image.Image | NDArray[Any]) -> list[DetectedDigit]:
    """Detect the digits in a picture of any size.

    Args:
        source: A path, a PIL image or an array (see `load_image`).

    Returns:
        The digits in reading order. Their boxes are in pixels of the source, upright and before it was reduced.

    Raises:
        UsageError: If the source is not a picture, is damaged or is too large.
    """
    picture, (width, height) = load_with_size(source)
    right, down = width / picture.shape[1], height / picture.shape[0]
    return [
        replace(digit, box=tuple(round(edge * scale) for edge, scale in zip(digit.box, 2 * (right, down), strict=True)))
        for digit in detect_digits(picture)
    ]


def detect_digits(picture: Picture) -> list[DetectedDigit]:
    """Detect the digits in a picture.

    Args:
        picture: RGB colours `[H, W, 3]`, from 0 to 1, as returned by `load_image`.

    Returns:
        The digits in reading order: left to right, top to bottom. Empty if there are none.
    """
    gray = picture @ LUMINANCE
    scale = round(max(gray.shape) / THRESHOLDS.coarse_side)
    if scale > 1:
        digits = _detect_at_scale(np.asarray(Image.fromarray(gray).reduce(scale)), scale)
        if any(digit.box[3] - digit.box[1] >= scale * THRESHOLDS.min_clear_height for digit in digits):
            return digits
    return _detect_at_scale(gray)


def _detect_at_scale(gray: Gray, scale: int = 1) -> list[DetectedDigit]:
    """Detect the digits in a gray picture that was reduced by `scale`; the boxes refer to the unreduced picture."""
    ink, is_flat = find_ink(gray)
    gap_radius = max(gray.shape) // THRESHOLDS.pen_gap_divisor
    labels = _label_strokes(find_strokes(ink), 2 * gap_radius + 1)
    digits = []
    for digit in _in_reading_order(_group_components(_filter_components(labels, is_flat))):
        window = tuple(
            slice(max(0, start - 1), stop + 1) for start, stop in ((digit.top, digit.bottom), (digit.left, digit.right))
        )
        mask = np.isin(labels[window], digit.labels)
        box = scale * digit.left, scale * digit.top, scale * digit.right, scale * digit.bottom
        digits.append(DetectedDigit(to_mnist(ink[window], mask, is_flat), box))
    return digits


def _label(strokes: Mask, size: int) -> Labels:
    """Label the strokes; those that touch after a dilation with a square of `size` pixels share a label."""
    labels, _ = ndimage.label(dilate(strokes, size), np.ones((3, 3)))
    labels *= strokes
    return labels


def _connected_components(labels: Labels) -> list[_Component]:
    """Return the components of a labelled image, without specks."""
    areas = np.bincount(labels.ravel()).tolist()
    boxes = enumerate(ndimage.find_objects(labels), start=1)
    components = [
        _Component([n], areas[n], box[0].start, box[1].start, box[0].stop, box[1].stop)
        for n, box in boxes
        if box is not None  # a number that no pixel has
    ]
    return [each for each in components if each.area > THRESHOLDS.min_component_area * max(areas[1:])]


def _label_strokes(strokes: Mask, size: int) -> Labels:
    """Label the strokes like `_label`, without rings and boxes that are drawn around a digit."""
    labels = _label(strokes, ENCLOSURE_GAP)
    components = _connected_components(labels)
    enclosures = [each.labels[0] for each in components if any(_encloses(each, other) for other in components)]
    if enclosures:
        strokes = strokes & ~np.isin(labels, enclosures)
    return _label(strokes, size) if enclosures or size != ENCLOSURE_GAP else labels


def _filter_components(labels: Labels, is_flat: bool) -> list[_Component]:
    """Return the components without underlines and, in a photograph, without what the rim of the picture cuts off."""
    height, width = labels.shape
    components = _connected_components(labels)
    if not is_flat:
        inside = [c for c in components if c.top > 0 and c.left > 0 and c.bottom < height and c.right < width]
        min_extent = THRESHOLDS.min_cropped_extent * max(labels.shape)
        cropped = [c for c in components if c not in inside and min(c.height, c.width) > min_extent]
        has_digit = any(c.height > THRESHOLDS.min_inside_height * height for c in inside)
        components = inside if has_digit else inside + cropped
    components = [c for c in components if not any(_is_underline(c, other) for other in components)]
    tallest = max((c.height for c in components), default=0)
    return components if tallest > THRESHOLDS.min_digit_fraction * max(labels.shape) else []


def _encloses(component: _Component, other: _Component) -> bool:
    """Return whether a component is a ring or a box around another one."""
    return component.contains(other) and other.height > THRESHOLDS.min_enclosed_height * component.height


def _is_underline(component: _Component, other: _Component) -> bool:
    """Return whether a component is a line under another one."""
    across, down = component.gap_to(other)
    below = component.top > other.bottom - THRESHOLDS.max_underline_rise * other.height and down < other.height
    overlaps = across < -THRESHOLDS.min_underline_overlap * min(component.width, other.width)
    return component.width > THRESHOLDS.min_underline_aspect * component.height and below and overlaps


def _group_components(components: list[_Component]) -> list[_Component]:
    """Merge the components of each digit; drop those that are far smaller, or have far less ink, than another digit."""
    digits: list[_Component] = []
    for component in sorted(components, key=lambda each: -each.height):
        whole = next((digit for digit in digits if _is_same_digit(component, digit, digits[0].height)), None)
        if whole is None:
            digits.append(component)
        else:
            whole.merge(component)
    if len(digits) < len(components):
        return _group_components(digits)
    min_area = THRESHOLDS.min_relative_area * max((digit.area for digit in digits), default=0)
    return [d for d in digits if d.height > THRESHOLDS.min_relative_height * digits[0].height and d.area > min_area]


def _is_same_digit(component: _Component, digit: _Component, tallest: int) -> bool:
    """Return whether a component is a part of a digit that the pen did not quite join, such as the roof of a 5."""
    across, down = digit.gap_to(component)
    is_small = component.height <= THRESHOLDS.small_height_ratio * digit.height
    if down < -THRESHOLDS.min_side_by_side_overlap * min(component.height, digit.height):
        # Two digits may stand side by side as well, so only a small part may have a gap.
        narrower = min(component.width, digit.width)
        return across < (THRESHOLDS.max_side_gap * tallest if is_small else -THRESHOLDS.min_slanted_overlap * narrower)
    whole = max(component.bottom, digit.bottom) - min(component.top, digit.top)
    if component.height < THRESHOLDS.small_height_ratio * digit.height:
        return across <= 0 and down <= THRESHOLDS.max_small_stacked_gap * whole
    return across <= THRESHOLDS.max_stacked_offset * tallest and down <= THRESHOLDS.max_large_stacked_gap * whole


def _in_reading_order(digits: list[_Component]) -> list[_Component]:
    """Sort digits into rows from top to bottom, and each row from left to right."""
    rows: list[list[_Component]] = []
    for digit in sorted(digits, key=lambda digit: digit.top):
        middle = (digit.top + digit.bottom) / 2
        row = next((row for row in rows if row[0].top < middle < row[0].bottom), None)
        if row is None:
            rows.append([digit])
        else:
            row.append(digit)
    return [digit for row in rows for digit in sorted(row, key=lambda digit: digit.left)]
