"""One digit's ink as MNIST has it: its longer side 20 pixels, a pen of usual width, its centre of mass in the middle.

The recipe is that of NIST's and LeCun's programs as QMNIST has reconstructed it (Yadav and Bottou, 2019).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from digitnet.inference.photos.ink import Gray, Mask

THIN, USUAL = 1.2, 2.4  # pixels: no MNIST digit is written with a finer pen; what it is made then


def to_mnist(ink: Gray, mask: Mask, even: bool) -> NDArray[np.uint8]:
    """`[28, 28]`, bright on black, of the ink under the mask."""
    ink, mask = np.pad(ink, 1), np.pad(mask, 1)
    near = ndimage.binary_dilation(mask, np.ones((3, 3), bool))
    soft = np.where(near, ink / np.quantile(ink[mask], 0.9 if even else 0.5), 0).clip(0, 1)
    small = shrink(soft)
    width = pen_width(soft, mask) * 20 / max(*cut(soft).shape, 10)
    if width < THIN:
        grow = (USUAL - width) / 2 * max(cut(mask).shape) / 20
        small = shrink(thicken(np.pad(mask, int(grow) + 2), grow))
    return centre(small)


def pen_width(soft: Gray, mask: Mask) -> float:
    """In pixels: the ink by the length of the strokes."""
    return float(soft.sum() / max(1, skeletonize(mask).sum()))


def thicken(mask: Mask, by: float) -> Gray:
    """Grows the strokes on each side by so many pixels; soft at the edge."""
    return np.clip(by + 0.5 - ndimage.distance_transform_edt(~mask), 0, 1).astype(np.float32)


def cut(image: Gray | Mask) -> Gray:
    """What is inked."""
    rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dtype=np.float32)


def shrink(image: Gray) -> Gray:
    """What is inked, its longer side 20 pixels; each pixel is the mean of those it stands for."""
    inked = cut(image)
    scale = 20 / max(*inked.shape, 10)
    height, width = (max(1, round(extent * scale)) for extent in inked.shape)
    way = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(inked).resize((width, height), way))


def centre(small: Gray) -> NDArray[np.uint8]:
    """In 28 × 28, the centre of mass as near to the middle as whole pixels go."""
    middle = ndimage.center_of_mass(small)
    top, left = (int(np.clip(round(14 - at), 0, 28 - size)) for at, size in zip(middle, small.shape, strict=True))
    image = np.zeros((28, 28), np.float32)
    image[top : top + small.shape[0], left : left + small.shape[1]] = small / small.max()
    return (image * 255).round().astype(np.uint8)
