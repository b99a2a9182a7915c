"""MNIST-C-like corruptions: the fifteen corruptions of MNIST-C, made anew after their published definitions.

N. Mu and J. Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", 2019, https://arxiv.org/abs/1906.02337. The
definitions and severities are those of `corruptions.py` in https://github.com/google-research/mnist-c (Apache License
2.0). Their random numbers cannot be repeated, so that these images are of the same kind as those of the published
archive, but not the same images.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import canny
from skimage.transform import AffineTransform, warp
from skimage.util import random_noise

Images = NDArray[np.floating]
"""Images `[N, 28, 28]` from 0 to 1."""

_SIDE = 28
_CENTER = 13.5
_FRACTAL_SIDE = 256
_CHUNK = 1000  # images at a time
_FRACTALS_AT_ONCE = 16  # more than that do not fit into the processor's cache


def corrupt(images: NDArray[np.uint8], name: str, seed: int = 1) -> NDArray[np.uint8]:
    """Apply a corruption to images.

    Args:
        images: Images `[N, 28, 28]`, bright on dark.
        name: A key of `CORRUPTIONS`.
        seed: Seed of the random numbers, 0 or more. Each corruption has its own stream of them.

    Returns:
        The corrupted images `[N, 28, 28]`, rounded to whole grey levels. Equal arguments give equal images.

    Raises:
        KeyError: If there is no such corruption.
        ValueError: If the images are not of 28x28 pixels.
    """
    function = CORRUPTIONS[name]
    if images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE):
        raise ValueError(f"images {list(images.shape)}: must be [N, 28, 28]")
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        pixels = images[start : start + _CHUNK].astype(np.float64) / 255
        corrupted[start : start + _CHUNK] = np.rint(255 * np.clip(function(pixels, rng), 0, 1))
    return corrupted


def shot_noise(images: Images, rng: np.random.Generator) -> Images:
    """Replace each pixel by a Poisson count with 3 photons at full brightness (severity 5)."""
    return rng.poisson(3 * images) / 3


def impulse_noise(images: Images, rng: np.random.Generator) -> Images:
    """Turn 17 % of the pixels black or white (severity 4)."""
    noisy: Images = random_noise(images, mode="s&p", amount=0.17, rng=rng)
    return noisy


def glass_blur(images: Images, rng: np.random.Generator) -> Images:
    """Blur, swap neighbouring pixels twice, and blur again (severity 1).

    As in the published function, which takes the columns for channels, the blur is vertical only.
    """
    blurred = np.floor(255 * _blur_columns(images)) / 255
    n, everywhere = len(images), np.arange(len(images))
    for _ in range(2):
        for row in range(_SIDE - 1, 1, -1):
            for column in range(_SIDE - 1, 1, -1):
                chosen = rng.random(n) < 0.5
                down, right = np.where(chosen, rng.integers(-1, 1, size=(2, n)), 0)
                other = (everywhere, row + down, column + right)
                here = blurred[:, row, column].copy()
                blurred[:, row, column] = blurred[other]
                blurred[other] = here
    return _blur_columns(blurred)


def _blur_columns(images: Images) -> Images:
    """Blur in the vertical direction with a Gaussian of 0.7 pixels."""
    blurred: Images = ndimage.gaussian_filter1d(images, 0.7, axis=1, mode="nearest")
    return blurred


def motion_blur(images: Images, rng: np.random.Generator) -> Images:
    """Smear along a direction within 45 degrees of the horizontal (severity 1: radius 10, sigma 3).

    The kernel is that of ImageMagick: one half of a Gaussian, sampled at the nearest pixels; edge pixels are repeated.
    """
    radius, sigma = 10, 3
    steps = np.arange(2 * radius + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    angle = np.radians(rng.uniform(-45, 45, size=len(images)))
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    blurred = np.zeros_like(images)
    for step, weight in zip(steps, kernel, strict=True):
        right, down = (np.ceil(step * part - 0.5).astype(int)[:, None, None] for part in (np.cos(angle), np.sin(angle)))
        y, x = np.clip(rows + down, 0, _SIDE - 1), np.clip(columns + right, 0, _SIDE - 1)
        blurred += weight * images[np.arange(len(images))[:, None, None], y, x]
    return blurred


def shear(images: Images, rng: np.random.Generator) -> Images:
    """Shear to the left or to the right by 0.4 radians (severity 2)."""
    # The matrix of scikit-image in 2019. Later versions define the shear in another way.
    amounts = [-0.4, 0.4]
    matrices = [np.array([[1, -math.sin(amount)], [0, math.cos(amount)]]) for amount in amounts]
    return _warp_each(images, [_about_center(matrix) for matrix in matrices], rng)


def scale(images: Images, rng: np.random.Generator) -> Images:
    """Shrink to 70 % (severity 3)."""
    return _warp_each(images, [_about_center(np.eye(2) / 0.7)], rng)


def rotate(images: Images, rng: np.random.Generator) -> Images:
    """Rotate to the left or to the right by 0.4 radians, 23 degrees (severity 2)."""
    matrices = [AffineTransform(rotation=amount).params[:2, :2] for amount in (-0.4, 0.4)]
    return _warp_each(images, [_about_center(matrix) for matrix in matrices], rng)


def translate(images: Images, rng: np.random.Generator) -> Images:
    """Shift by 3 pixels along both axes (severity 3)."""
    shifts = [(right, down) for right in (-3, 3) for down in (-3, 3)]
    return _warp_each(images, [AffineTransform(translation=shift) for shift in shifts], rng)


def _about_center(matrix: NDArray[np.floating]) -> AffineTransform:
    """Return the transform of a 2x2 matrix that leaves the center of the image where it is."""
    full = np.eye(3)
    full[:2, :2] = matrix
    full[:2, 2] = _CENTER - matrix @ (_CENTER, _CENTER)
    return AffineTransform(matrix=full)


def _warp_each(images: Images, transforms: list[AffineTransform], rng: np.random.Generator) -> Images:
    """Resample each image through one of the transforms, which map its new coordinates to the old ones."""
    choice = rng.integers(len(transforms), size=len(images))
    warped = np.empty_like(images)
    for number, transform in enumerate(transforms):
        chosen = choice == number
        if chosen.any():
            channels = np.moveaxis(images[chosen], 0, -1)  # one call for all of them
            warped[chosen] = np.moveaxis(warp(channels, inverse_map=transform, order=1), -1, 0)
    return warped


def brightness(images: Images, rng: np.random.Generator) -> Images:
    """Add one half to each pixel (severity 5)."""
    return np.clip(images + 0.5, 0, 1)


def stripe(images: Images, rng: np.random.Generator) -> Images:
    """Invert the outer quarters of the columns."""
    striped = images.copy()
    for columns in (slice(None, 7), slice(21, None)):
        striped[:, :, columns] = 1 - striped[:, :, columns]
    return striped


def fog(images: Images, rng: np.random.Generator) -> Images:
    """Add a plasma fractal of three times the brightness, and scale the sum down (severity 5)."""
    highest = images.max(axis=(1, 2), keepdims=True)
    starts = range(0, len(images), _FRACTALS_AT_ONCE)
    sizes = [min(_FRACTALS_AT_ONCE, len(images) - start) for start in starts]
    clouds = np.concatenate([_plasma_fractals(size, 1.4, rng)[:, :_SIDE, :_SIDE] for size in sizes])
    return np.clip((images + 3 * clouds) * highest / (highest + 3), 0, 1)


def _plasma_fractals(n: int, decay: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return height maps `[N, 256, 256]` from 0 to 1, by the diamond-square algorithm on a torus.

    Args:
        n: Number of maps.
        decay: Factor by which the range of the random numbers falls from one step to the next.
        rng: Random numbers.
    """
    maps = np.zeros((n, _FRACTAL_SIDE, _FRACTAL_SIDE), dtype=np.float32)
    step, wobble = _FRACTAL_SIDE, 100.0

    def varied(sums: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = rng.random(sums.shape, dtype=np.float32)
        return sums / 4 + np.float32(wobble**2) * (2 * noise - 1)

    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        maps[:, half::step, half::step] = varied(rows + np.roll(rows, -1, axis=2))
        centers = maps[:, half::step, half::step]
        below, right = corners + np.roll(corners, -1, axis=1), corners + np.roll(corners, -1, axis=2)
        maps[:, half::step, ::step] = varied(below + centers + np.roll(centers, 1, axis=2))
        maps[:, ::step, half::step] = varied(right + centers + np.roll(centers, 1, axis=1))
        step, wobble = half, wobble / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    return maps / maps.max(axis=(1, 2), keepdims=True)


def spatter(images: Images, rng: np.random.Generator) -> Images:
    """Throw grey blots of mud on the image (severity 4)."""
    sigma = (0.0, 1.0, 1.0)
    liquid = ndimage.gaussian_filter(rng.normal(0.65, 0.3, size=images.shape), sigma, mode="nearest")
    mud = ndimage.gaussian_filter((liquid > 0.65).astype(np.float64), 1.5 * np.array(sigma), mode="nearest")
    mud[mud < 0.8] = 0
    return images * (1 - mud) + 63 / 255 * mud


def dotted_line(images: Images, rng: np.random.Generator) -> Images:
    """Draw a dotted line from the left to the right edge."""
    left, right = rng.integers(27, size=(2, len(images)))
    return np.clip(images + _dotted_lines()[left, right], 0, 1)


@functools.cache
def _dotted_lines() -> Images:
    """Return the dotted lines from each row at the left to each row at the right, `[27, 27, 28, 28]`."""
    lines = np.array([[_line(0, top, 27, end) for end in range(27)] for top in range(27)])
    lines[..., (np.arange(_SIDE) // 2) % 2 == 0] = 0  # two columns off, two on
    return lines


def zigzag(images: Images, rng: np.random.Generator) -> Images:
    """Draw a zigzag line from the left to the right."""
    starts, rises = rng.integers(27, size=len(images)), rng.integers(10, size=len(images))
    return np.clip(images + _zigzags()[starts, rises], 0, 1)


@functools.cache
def _zigzags() -> Images:
    """Return the zigzag lines from each row at the left, rising by -5 to 4 rows, `[27, 10, 28, 28]`."""
    return np.array([[_zigzag(row, rise) for rise in range(-5, 5)] for row in range(27)])


def _zigzag(row: int, rise: int) -> Images:
    """Draw a zigzag of peaks of 2 pixels, 4 apart, from column 2 to column 25."""
    first, last, half_width, height = 2, 25, 2.0, 2.0
    theta = math.atan(rise / (last - first))
    length = (last - first) / math.cos(theta)
    peaks = int((length - half_width) // (2 * half_width)) + 1
    along = [0.0, *((2 * peak + 1) * half_width for peak in range(peaks))]
    across = [0.0, *((-1) ** peak * height for peak in range(peaks))]
    full_waves = 2 * half_width * (length // (2 * half_width))
    if length != full_waves:
        along.append(length)
        across.append(across[-1] / (2 * (length - full_waves)))
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    columns, rows = turn @ np.array([along, across]) + np.array([[first], [row]])
    lines = [_line(*ends) for ends in zip(columns[:-1], rows[:-1], columns[1:], rows[1:], strict=True)]
    return np.clip(sum(lines), 0, 1)


def _line(column: float, row: float, end_column: float, end_row: float) -> Images:
    """Draw a line of about 3 pixels that fades out, 1 in its middle, on a black image `[28, 28]`."""
    if column == end_column:
        return np.zeros((_SIDE, _SIDE))
    columns, rows = np.arange(_SIDE)[None, :], np.arange(_SIDE)[:, None]
    middle = row + (end_row - row) / (end_column - column) * (columns - column)
    distance = np.minimum(np.abs(rows - middle), 2.3 - 1e-10)
    line = np.clip(1 + np.log(1 - distance / 2.3), 0, 1)
    line[:, : math.floor(column)] = 0
    line[:, math.ceil(end_column) :] = 0
    return line


def canny_edges(images: Images, rng: np.random.Generator) -> Images:
    """Keep only the edges, by Canny's detector."""
    return np.array([canny(image) for image in images], dtype=np.float64).reshape(images.shape)


CORRUPTIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    function.__name__: function
    for function in (
        shot_noise,
        impulse_noise,
        glass_blur,
        motion_blur,
        shear,
        scale,
        rotate,
        brightness,
        translate,
        stripe,
        fog,
        spatter,
        dotted_line,
        zigzag,
        canny_edges,
    )
}
"""The fifteen corruptions by name, in the published order. They map images and random numbers to images."""
