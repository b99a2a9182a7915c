"""Estimate the ink in a picture: the fraction of the paper's light that each pixel absorbs."""

import functools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from digitnet.inference.photos.filters import Mask, close_and_crop, hysteresis_mask, median, otsu_threshold, quantile
from digitnet.inference.photos.thresholds import THRESHOLDS

Gray = NDArray[np.float32]  # [height, width]


def find_ink(gray: Gray) -> tuple[Gray, bool]:
    """Estimate the ink at each pixel, for dark ink on bright paper and for bright ink on a dark ground.

    Args:
        gray: Brightness `[H, W]`, from 0 to 1.

    Returns:
        The ink `[H, W]`, from about 0 where there is none to 1; and whether the background was flat, so that the ink is
        free of noise and needed no correction.
    """
    page = _paper_mask(gray)
    if page is not None:
        gray = np.where(page, gray, np.median(gray[page]))
    rim = _rim(gray)
    counts, edges = np.histogram(rim, THRESHOLDS.rim_histogram_bins, (0, 1))
    paper = np.median(rim[np.digitize(rim, edges[:-1]) == counts.argmax() + 1])
    tolerance = THRESHOLDS.flat_tolerance
    if np.ptp(gray) < tolerance:
        return np.zeros_like(gray), True
    flat = (np.abs(gray - paper) < tolerance).mean() > THRESHOLDS.min_flat_fraction
    if flat and (np.abs(rim - paper) < tolerance).mean() > THRESHOLDS.min_flat_rim_fraction:
        bright = paper < (gray.min() + gray.max()) / 2
        ink = (gray - paper) / (1 - paper) if bright else (paper - gray) / paper
        dilation = THRESHOLDS.flat_rule_dilation
        unruled = _remove_ruled_lines(_remove_ruled_lines(ink, dilation).T, dilation).T
        return unruled, np.array_equal(unruled, ink)
    gray = 1 - gray if _is_ink_bright(gray) else gray
    light = _estimate_background(gray)
    ink = ndimage.gaussian_filter(1 - gray / light, max(gray.shape) / THRESHOLDS.ink_blur_divisor)
    ink = _remove_ruled_lines(_remove_ruled_lines(ink).T).T
    # The closing overestimates the paper's brightness by the noise, and where there is less light there is more noise.
    ink -= _median_on_paper(ink * light, ink) / light
    noise = _median_on_paper(np.abs(ink * light), ink) / light
    return np.where(ink > THRESHOLDS.noise_factor * noise, ink, 0), False


def find_strokes(ink: Gray) -> Mask:
    """Separate ink from noise, by Otsu's threshold with hysteresis.

    Args:
        ink: Ink `[H, W]`, as returned by `find_ink`.

    Returns:
        A mask `[H, W]` of the pixels that are covered by strokes.
    """
    floor = max(THRESHOLDS.min_ink, THRESHOLDS.noise_factor * _median_on_paper(np.abs(ink), ink))
    candidates = ink[ink > floor]
    if candidates.size < THRESHOLDS.min_ink_pixels or np.ptp(candidates) < THRESHOLDS.min_ink_range:
        return ink > floor
    high = otsu_threshold(candidates)
    return hysteresis_mask(ink, max(floor, THRESHOLDS.hysteresis_ratio * high), high)


def _rim(image: NDArray[Any]) -> NDArray[Any]:
    """Return the outermost pixels; those in the corners occur twice."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _paper_mask(gray: Gray) -> Mask | None:
    """Return the mask of a written sheet that lies on a far darker table, or None if there is none."""
    small = _downscale(gray)
    if np.ptp(small) < THRESHOLDS.faint_level:
        return None
    bright = small > otsu_threshold(small)
    if small[~bright].mean() > THRESHOLDS.table_ratio * small[bright].mean():
        return None
    labels, _ = ndimage.label(bright)
    largest = labels == np.bincount(labels[bright]).argmax()
    whole = ndimage.binary_fill_holes(largest)
    box = ndimage.find_objects(whole.astype(int))[0]
    written = 1 - largest.sum() / whole.sum()
    if (
        not THRESHOLDS.min_written_fraction < written < THRESHOLDS.max_written_fraction
        or whole.mean() < THRESHOLDS.min_paper_fraction
        or _rim(whole).mean() > THRESHOLDS.max_paper_rim_fraction
        or whole[box].mean() < THRESHOLDS.min_paper_rectangularity
    ):
        return None
    inner = ndimage.binary_erosion(whole, iterations=THRESHOLDS.paper_erosion, border_value=1)
    return np.asarray(Image.fromarray(inner).resize(gray.shape[::-1]))


def _is_ink_bright(gray: Gray) -> bool:
    """Return whether the pixels that differ most from their surroundings are brighter, as chalk on a board is."""
    small = _downscale(gray)
    surround = ndimage.gaussian_filter(small, max(small.shape) / THRESHOLDS.surround_blur_divisor)
    difference = small - surround
    return bool((difference * difference * difference).mean() > 0)  # a power takes ten times as long


def _estimate_background(gray: Gray) -> Gray:
    """Estimate the brightness of the paper as it would be without dark strokes.

    A morphological closing removes what is dark and narrower than its size. It keeps the edges of wider shadows, but
    not their corners. Of several sizes, the smallest one is taken that reveals most of the stroke ink.
    """
    small = _downscale(gray)
    sizes = [-(-max(small.shape) // divisor) for divisor in THRESHOLDS.closing_divisors]
    lights = [_grey_close(small, size) for size in sizes]
    amounts = [_stroke_ink(1 - small / light, size) for light, size in zip(lights, sizes, strict=True)]
    enough = THRESHOLDS.min_stroke_ink_fraction * max(amounts) or np.inf
    light = next((light for light, amount in zip(lights, amounts, strict=True) if amount >= enough), lights[-1])
    return np.asarray(Image.fromarray(light).resize(gray.shape[::-1], Image.Resampling.BILINEAR))


def _downscale(gray: Gray) -> Gray:
    """Reduce a picture to about `thumbnail_side` pixels by an integer factor."""
    factor = -(-max(gray.shape) // THRESHOLDS.thumbnail_side)
    return np.asarray(Image.fromarray(np.ascontiguousarray(gray)).reduce(factor))


def _grey_close(gray: Gray, size: int) -> Gray:
    """Close a picture with a square of `size` pixels and blur the result.

    The picture is continued beyond its rim by an odd reflection, which also continues the slope of the brightness.
    """
    size = min(size, *gray.shape)
    margin = round(4 * THRESHOLDS.closing_blur)  # beyond which the weights of the blur are zero
    padded = np.pad(gray, size - 1 + margin, mode="reflect", reflect_type="odd")
    light = ndimage.gaussian_filter(close_and_crop(padded, size), THRESHOLDS.closing_blur, radius=margin)
    return np.maximum(light[margin:-margin, margin:-margin], THRESHOLDS.min_background)


def _stroke_ink(ink: Gray, closing_size: float) -> float:
    """Return the total ink in strokes that do not touch the rim and are clearly narrower than the closing."""
    ink = ink - _median_on_paper(ink, ink)
    labels, count = ndimage.label(find_strokes(ink), np.ones((3, 3)))
    areas, lengths = np.bincount(labels.ravel()), np.bincount(labels[skeletonize(labels > 0)], minlength=count + 1)
    narrow = areas < THRESHOLDS.max_stroke_width * closing_size * lengths
    long = lengths > THRESHOLDS.min_stroke_length * max(ink.shape)
    strokes = narrow & long & ~np.isin(np.arange(count + 1), _rim(labels))
    strokes[0] = False
    return float(ink[strokes[labels]].sum())


def _median_on_paper(values: Gray, ink: Gray) -> float:
    """Return the median of the values where there is little ink; a bold digit may cover more than half of a frame."""
    paper = values[ink < THRESHOLDS.ink_level]
    return median(paper) if paper.size else 0.0


def _remove_ruled_lines(ink: Gray, dilation: int = 1) -> Gray:
    """Subtract the ink of straight parallel lines that run through the picture from left to right.

    Args:
        ink: Ink `[H, W]`.
        dilation: Pixels over which each line is widened before it is subtracted.
    """
    step = -(-max(ink.shape) // THRESHOLDS.thumbnail_side)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(ink)).reduce((THRESHOLDS.rule_aspect * step, step)))
    slopes, shifts = _shears(*small.shape)
    # The columns below themselves, as windows [W, H, H], each of which starts one row further down
    columns = sliding_window_view(np.concatenate([small, small[:-1]]).T, len(small), axis=1)
    sheared = columns[np.arange(small.shape[1]), shifts]  # [slopes, W, H]
    best = int(np.abs(np.diff(sheared.mean(axis=1))).sum(axis=1).argmax())
    if quantile(sheared[best].T, THRESHOLDS.rule_quantile).max() < THRESHOLDS.faint_level:
        return ink
    height, width = ink.shape
    drop = np.round(slopes[best] * np.arange(width)).astype(int)
    rows = np.arange(min(0, -drop[-1]), height + max(0, -drop[-1]))[:, None] + drop
    inside = (rows >= 0) & (rows < height)
    along = np.where(inside, np.take_along_axis(ink, rows.clip(0, height - 1), 0), np.inf)
    along.sort(axis=1)
    count, index = inside.sum(axis=1), np.arange(len(rows))
    ends, lines = along[index, count // THRESHOLDS.rule_end_divisor], along[index, count // THRESHOLDS.rule_divisor]
    too_short = count < width * THRESHOLDS.min_rule_length
    lines[too_short | (ends < THRESHOLDS.min_rule_end_ratio * lines)] = 0
    window = max(THRESHOLDS.min_rule_window, round(THRESHOLDS.max_rule_width * max(ink.shape)))
    narrow = ndimage.white_tophat(np.maximum(lines, 0), window)
    lines = ndimage.maximum_filter1d(narrow, dilation)
    return ink - lines[np.arange(height)[:, None] - drop - rows[0, 0]]


@functools.lru_cache(maxsize=16)
def _shears(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return candidate slopes of ruled lines and the shifts that shear an image along each of them.

    Args:
        height: Rows of the image.
        width: Columns of the image, each of which stands for `rule_aspect` columns of square pixels.

    Returns:
        The slopes `[S]`, and for each slope and column the number of rows, `[S, width]` and modulo the height, by which
        the column is shifted up. A line of that slope is horizontal then.
    """
    limit, aspect = THRESHOLDS.max_rule_slope, THRESHOLDS.rule_aspect
    count = 4 * round(limit * THRESHOLDS.thumbnail_side) + 1  # odd, so that slope 0 is one of them
    slopes = np.linspace(-limit, limit, count)
    return slopes, np.round(aspect * slopes[:, None] * np.arange(width)).astype(int) % height
