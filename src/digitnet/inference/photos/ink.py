"""What is ink in a picture: how much of the paper's light each pixel takes, whatever the light and the paper."""

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.morphology import skeletonize

Gray = NDArray[np.float32]  # [height, width]
Mask = NDArray[np.bool_]

EVEN = 1.5 / 255  # a third of a picture that no camera took is paper and differs by no more
SMALL = 128  # pixels of the longest side, enough to see the light on the paper
STROKES = 16, 8, 3  # parts of the longest side: no stroke is wider than the last
PALE = 0.5  # what is written is darker
FAINT = 0.03  # ink that is not worth a look
DARK = 0.5  # the brightness of a table by that of the paper on it; of shadows too, but they leave the picture
NOISE = 7.5  # medians of the differences between one pixel of paper and the next: five standard deviations
WIDEST = 0.03  # of the longest side: a ruled line; what is wider is a stroke in a tight frame
SLANT = np.tan(np.radians(15))  # of ruled lines


def find_ink(gray: Gray) -> tuple[Gray, bool]:
    """Ink from 0 to 1, around 0 where there is none, and whether the paper was even: nothing had to be done then."""
    page = sheet(gray)
    if page is not None:
        gray = np.where(page, gray, np.median(gray[page]))
    rim = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    counts, edges = np.histogram(rim, 64, (0, 1))
    paper = np.median(rim[np.digitize(rim, edges[:-1]) == counts.argmax() + 1])
    if np.ptp(gray) < EVEN:
        return np.zeros_like(gray), True
    if (np.abs(gray - paper) < EVEN).mean() > 0.3 and (np.abs(rim - paper) < EVEN).mean() > 0.5:
        bright = paper < (gray.min() + gray.max()) / 2
        ink = (gray - paper) / (1 - paper) if bright else (paper - gray) / paper
        plain = without_lines(without_lines(ink, 3).T, 3).T  # sharp lines, a step here and there
        return plain, np.array_equal(plain, ink)
    gray = 1 - gray if is_ink_bright(gray) else gray
    light = light_on_paper(gray)
    ink = ndimage.gaussian_filter(1 - gray / light, max(gray.shape) / 350)
    ink = without_lines(without_lines(ink).T).T
    ink -= median_on_paper(ink * light, ink) / light  # closing finds paper as bright as its noise at its brightest
    noise = median_on_paper(np.abs(ink * light), ink) / light  # and where there is less light that is more of it
    return np.where(ink > NOISE * noise, ink, 0), False


def sheet(gray: Gray) -> Mask | None:
    """Where a written sheet lies on something far darker; None if there is none."""
    small = shrunk(gray)
    if np.ptp(small) < FAINT:
        return None
    bright = small > threshold_otsu(small)
    if small[~bright].mean() > DARK * small[bright].mean():
        return None
    labels, _ = ndimage.label(bright)
    largest = labels == np.bincount(labels[bright]).argmax()
    whole = ndimage.binary_fill_holes(largest)
    box = ndimage.find_objects(whole.astype(int))[0]
    written = 0.002 < 1 - largest.sum() / whole.sum() < 0.25
    rim = np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]])
    if not written or whole.mean() < 0.3 or rim.mean() > 0.3 or whole[box].mean() < 0.85:
        return None
    inner = ndimage.binary_erosion(whole, iterations=3, border_value=1)
    return np.asarray(Image.fromarray(inner).resize(gray.shape[::-1]))


def is_ink_bright(gray: Gray) -> bool:
    """Chalk on a board: what differs most from its surroundings is brighter than they are."""
    small = shrunk(gray)
    return bool(((small - ndimage.gaussian_filter(small, max(small.shape) / 16)) ** 3).mean() > 0)


def light_on_paper(gray: Gray) -> Gray:
    """The paper as it would be without dark strokes.

    Closing takes away what is dark and narrower than a stroke may be, and leaves the edges of wider shadows as they
    are, but not their corners: of several widths, the smallest is taken that shows most of the strokes.
    """
    small = shrunk(gray)
    sizes = [-(-max(small.shape) // part) for part in STROKES]
    lights = [closed(small, size) for size in sizes]
    amounts = [amount(1 - small / light, size) for light, size in zip(lights, sizes, strict=True)]
    enough = 0.8 * max(amounts) or np.inf
    light = next((light for light, found in zip(lights, amounts, strict=True) if found >= enough), lights[-1])
    return np.asarray(Image.fromarray(light).resize(gray.shape[::-1], Image.Resampling.BILINEAR))


def shrunk(gray: Gray) -> Gray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(gray)).reduce(-(-max(gray.shape) // SMALL)))


def closed(gray: Gray, size: int) -> Gray:
    size = min(size, *gray.shape)
    wide = np.pad(gray, size - 1, mode="reflect", reflect_type="odd")  # goes on brighter or darker, as at the rim
    light = ndimage.gaussian_filter(ndimage.grey_closing(wide, (size, size)), 1)
    inside = tuple(slice(size - 1, size - 1 + side) for side in gray.shape)
    return np.maximum(light[inside], 1 / 255)


def amount(ink: Gray, widest: float) -> float:
    """The ink in pen strokes that do not leave the picture and are not as wide as a stroke can be found at all."""
    ink = ink - median_on_paper(ink, ink)
    labels, count = ndimage.label(find_strokes(ink), np.ones((3, 3)))
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    areas, lengths = np.bincount(labels.ravel()), np.bincount(labels[skeletonize(labels > 0)], minlength=count + 1)
    strokes = (areas < 0.6 * widest * lengths) & (lengths > 0.05 * max(ink.shape)) & ~np.isin(np.arange(count + 1), rim)
    strokes[0] = False
    return float(ink[strokes[labels]].sum())


def median_on_paper(values: Gray, ink: Gray) -> float:
    """The median where there is little ink; a bold digit in a tight frame leaves less paper than it covers."""
    paper = values[ink < PALE]
    return float(np.median(paper)) if paper.size else 0.0


def find_strokes(ink: Gray) -> Mask:
    """Where there is ink, and not only noise."""
    floor = max(0.06, NOISE * median_on_paper(np.abs(ink), ink))
    candidates = ink[ink > floor]
    if candidates.size < 4 or np.ptp(candidates) < 0.01:
        return ink > floor
    high = threshold_otsu(candidates)
    return apply_hysteresis_threshold(ink, max(floor, 0.6 * high), high)


def without_lines(ink: Gray, thick: int = 1) -> Gray:
    """Takes away what runs through the picture from left to right in straight parallel lines."""
    step = -(-max(ink.shape) // SMALL)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(ink)).reduce((4 * step, step)))
    slopes, moved = shears(*small.shape)
    profiles = small.ravel()[moved].mean(axis=2)
    best = int(np.abs(np.diff(profiles)).sum(axis=1).argmax())
    if np.quantile(small.ravel()[moved[best]], 0.25, axis=1).max() < FAINT:
        return ink
    height, width = ink.shape
    fall = np.round(slopes[best] * np.arange(width)).astype(int)
    rows = np.arange(min(0, -fall[-1]), height + max(0, -fall[-1]))[:, None] + fall
    inside = (rows >= 0) & (rows < height)
    along = np.where(inside, np.take_along_axis(ink, rows.clip(0, height - 1), 0), np.inf)
    along.sort(axis=1)
    count = inside.sum(axis=1)
    ends, lines = along[np.arange(len(rows)), count // 12], along[np.arange(len(rows)), count // 4]
    lines[(count < width / 2) | (ends < 0.3 * lines)] = 0
    narrow = ndimage.white_tophat(np.maximum(lines, 0), max(3, round(WIDEST * max(ink.shape))))
    lines = ndimage.maximum_filter1d(narrow, thick)
    return ink - lines[np.arange(height)[:, None] - fall - rows[0, 0]]


@functools.lru_cache(maxsize=16)
def shears(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Slopes, and for each the pixel that stands at `[row, column]` when the columns are moved along it."""
    slopes = np.linspace(-SLANT, SLANT, 4 * round(SLANT * SMALL) + 1)  # level is one of them
    rows = np.arange(height)[:, None] + np.round(4 * slopes[:, None, None] * np.arange(width)).astype(int)
    return slopes, rows % height * width + np.arange(width)
