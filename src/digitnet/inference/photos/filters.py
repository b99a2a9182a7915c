"""Filters of scipy and scikit-image with the same results, several times as fast on pictures of a few hundred pixels.

`scipy.ndimage` filters any dimension and data type one line at a time, in float64; here whole rows are compared at once
in the type of the picture.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]  # [height, width]

OTSU_BINS = 256
MEDIAN_SAMPLE_STEP = 32  # one of so many values is in the sample
MEDIAN_BRACKET = (0.47, 0.53)  # quantiles of the sample


def running_extremum(compare: np.ufunc, image: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the largest or smallest value in each square of `size` pixels that lies inside an image.

    The windows are doubled until they are large enough, so that the time grows with the logarithm of their size.

    Args:
        compare: `np.maximum` or `np.minimum`.
        image: An image `[H, W]`, at least `size` pixels wide and high.
        size: Pixels of the side of the square.

    Returns:
        The extrema `[H - size + 1, W - size + 1]`. The first one is that of the square in the upper left corner.
    """
    for _ in range(2):
        width = 1
        while width < size:
            step = min(width, size - width)
            image = compare(image[:-step], image[step:])
            width += step
        image = image.T
    return image


def dilate(mask: Mask, size: int) -> Mask:
    """Dilate a mask with a square of an odd number of pixels; beyond the rim there is nothing."""
    return running_extremum(np.maximum, np.pad(mask, size // 2), size)


def close_and_crop(padded: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Close an image with a square of `size` pixels, where all that the result depends on lies inside the image.

    Args:
        padded: An image `[H, W]`.
        size: Pixels of the side of the square.

    Returns:
        The closed image `[H - 2 * size + 2, W - 2 * size + 2]`, without the outermost `size - 1` pixels on each side.
    """
    return running_extremum(np.minimum, running_extremum(np.maximum, padded, size), size)


def otsu_threshold(values: NDArray[np.float32]) -> float:
    """Return Otsu's threshold, which separates values into two classes of the smallest variance (Otsu, 1979).

    Args:
        values: At least two different values, of any shape.

    Returns:
        The middle of one of `OTSU_BINS` bins between the smallest and the largest value.
    """
    low, high = float(values.min()), float(values.max())
    bins = ((values.ravel() - low) * (OTSU_BINS / (high - low))).astype(np.intp)
    counts = np.bincount(bins.clip(max=OTSU_BINS - 1), minlength=OTSU_BINS)
    centers = low + (np.arange(OTSU_BINS) + 0.5) * ((high - low) / OTSU_BINS)
    below, total = np.cumsum(counts), np.cumsum(counts * centers)
    above = counts.sum() - below[:-1]
    difference = total[:-1] / below[:-1] - (total[-1] - total[:-1]) / above
    return float(centers[np.argmax(below[:-1] * above * difference**2)])


def hysteresis_mask(values: NDArray[np.float32], low: float, high: float) -> Mask:
    """Return the regions above the lower threshold in which a pixel is above the upper one (Canny, 1986).

    Args:
        values: An image `[H, W]`.
        low: Lower threshold.
        high: Upper threshold.

    Returns:
        A mask `[H, W]`. Pixels that share a side belong to the same region.
    """
    regions, count = ndimage.label(values > low)
    is_strong = np.zeros(count + 1, bool)
    is_strong[regions[values > high]] = True
    is_strong[0] = False
    return is_strong[regions]


def median(values: NDArray[np.float32]) -> float:
    """Return the median of finite values.

    Of many values, only those between two quantiles of a sample are partitioned, if the median is among them.

    Args:
        values: At least one value, of any shape.
    """
    is_odd, index = values.size % 2, values.size // 2
    if values.size > MEDIAN_SAMPLE_STEP**2:
        sample = np.sort(values.ravel()[::MEDIAN_SAMPLE_STEP])
        low, high = (sample[int(quantile * len(sample))] for quantile in MEDIAN_BRACKET)
        between = values[(values >= low) & (values <= high)]
        rank = index - int(np.count_nonzero(values < low))
        if 0 < rank < between.size:
            values, index = between, rank
    partitioned = np.partition(values, index, axis=None)
    upper = partitioned[index]
    return float(upper if is_odd else (partitioned[:index].max() + upper) / 2)


def quantile(values: NDArray[np.float32], fraction: float) -> NDArray[np.float32]:
    """Return a quantile along the last axis, interpolated linearly; `numpy.quantile` takes longer for short axes."""
    ordered = np.sort(values)
    position = fraction * (values.shape[-1] - 1)
    index = int(position)
    lower, upper = ordered[..., index], ordered[..., min(index + 1, values.shape[-1] - 1)]
    return lower + (upper - lower) * np.float32(position - index)
