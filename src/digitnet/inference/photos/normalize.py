"""Convert the ink of one digit to an MNIST image: longer side 20 pixels, centre of mass in the middle.

The recipe is that of the programs of NIST and LeCun as QMNIST has reconstructed it (Yadav and Bottou, 2019).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from digitnet.inference.photos.filters import Mask, dilate
from digitnet.inference.photos.ink import Gray
from digitnet.inference.photos.thresholds import THRESHOLDS

DIGIT_SIDE, IMAGE_SIDE = 20, 28  # pixels, of the longer side of an MNIST digit and of its image


def to_mnist(ink: Gray, mask: Mask, is_flat: bool) -> NDArray[np.uint8]:
    """Convert the ink of one digit to an MNIST image.

    Args:
        ink: Ink `[H, W]` around the digit, from 0 to 1.
        mask: Pixels `[H, W]` that belong to the digit; at least one.
        is_flat: Whether the picture has a flat background, as returned by `find_ink`.

    Returns:
        The image `[28, 28]`, bright on black.
    """
    ink, mask = np.pad(ink, 1), np.pad(mask, 1)
    near = dilate(mask, 3)
    quantile = THRESHOLDS.flat_ink_quantile if is_flat else THRESHOLDS.photo_ink_quantile
    soft = np.where(near, ink / np.quantile(ink[mask], quantile), 0).clip(0, 1)
    small = _resize_to_20px(soft)
    width = _pen_width(soft, mask) * DIGIT_SIDE / max(*_crop_to_ink(soft).shape, THRESHOLDS.min_digit_extent)
    if width < THRESHOLDS.min_pen_width:
        growth = (THRESHOLDS.target_pen_width - width) / 2 * max(_crop_to_ink(mask).shape) / DIGIT_SIDE
        small = _resize_to_20px(_thicken(np.pad(mask, int(growth) + 2), growth))
    return _center_on_mass(small)


def _pen_width(soft: Gray, mask: Mask) -> float:
    """Return the mean stroke width in pixels: the total ink divided by the length of the skeleton."""
    return float(soft.sum() / max(1, skeletonize(mask).sum()))


def _thicken(mask: Mask, growth: float) -> Gray:
    """Grow the strokes by `growth` pixels on each side, with soft edges."""
    return np.clip(growth + 0.5 - ndimage.distance_transform_edt(~mask), 0, 1).astype(np.float32)


def _crop_to_ink(image: Gray | Mask) -> Gray:
    """Crop an image to the bounding box of its nonzero pixels."""
    rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.float32)


def _resize_to_20px(image: Gray) -> Gray:
    """Crop an image to its ink and resize its longer side to 20 pixels, each the mean of the pixels that it covers."""
    inked = _crop_to_ink(image)
    scale = DIGIT_SIDE / max(*inked.shape, THRESHOLDS.min_digit_extent)
    height, width = (max(1, round(extent * scale)) for extent in inked.shape)
    resample = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(inked).resize((width, height), resample))


def _center_on_mass(small: Gray) -> NDArray[np.uint8]:
    """Place a digit in a 28 × 28 image, its centre of mass as near to the middle as whole pixels allow."""
    mass = ndimage.center_of_mass(small)
    top, left = (
        int(np.clip(round(IMAGE_SIDE // 2 - center), 0, IMAGE_SIDE - size))
        for center, size in zip(mass, small.shape, strict=True)
    )
    image = np.zeros((IMAGE_SIDE, IMAGE_SIDE), np.float32)
    image[top : top + small.shape[0], left : left + small.shape[1]] = small / small.max()
    return (image * 255).round().astype(np.uint8)
