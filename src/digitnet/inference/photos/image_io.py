"""Picture files in: bounded before they are decoded, upright, on paper, in colours from 0 to 1."""

import ctypes
import logging
import stat
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, ImageFileDirectory_v2, TiffImageFile

from digitnet.errors import UsageError

SIDE = 480  # pixels of the longest side that is looked at
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # the decoders that a file can reach

# Within these bounds the worst picture takes less than 1 GB.
FILE = 2**28  # bytes
PIXELS = 64 * 2**20
HEAVY, HEAVY_PIXELS = ("WEBP", "AVIF"), 50 * 2**20  # their decoders hold a picture four times over
TAGS = 2**21  # bytes, in one directory of a TIFF or an EXIF

TOO_LARGE = "has too many pixels; scale it down to 50 megapixels"

Picture = NDArray[np.float32]  # [height, width, 3], from 0 to 1


def load(source: str | Path | Image.Image | NDArray[Any]) -> Picture:
    """A picture no larger than SIDE. Raises UsageError for what is no picture, or too large a one.

    Arrays are `[H, W]`, `[H, W, 3]` or, with alpha, `[H, W, 4]`: uint8, uint16, bool, or float from 0 to 1.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            if isinstance(source, str | Path):
                with regular_file(Path(source)) as file, opened(file) as image:
                    return picture_of(image)
            return picture_of(source if isinstance(source, Image.Image) else image_of(source))
    except Exception as error:  # Pillow raises whatever the broken bytes lead to: six kinds were seen
        name = source if isinstance(source, str | Path) else f"the {type(source).__name__}"
        what = error if isinstance(error, UsageError) else f"is damaged ({error}); save or copy it again"
        raise UsageError(printable(f"{name}: {what}")) from error


def printable(text: str) -> str:
    """One line, whatever a file is called."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def regular_file(path: Path) -> IO[bytes]:
    """A fifo is never opened: that would wait until somebody writes into it."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError("is a folder; give the path of a picture")
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("is a pipe or a device; save the picture to a file first")
        if status.st_size == 0:
            raise UsageError("is empty; save or copy it again")
        if status.st_size > FILE:
            raise UsageError(f"is larger than {FILE >> 20} MB; scale it down")
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror}); give the path of a picture") from error


def opened(file: IO[bytes]) -> Image.Image:
    """Not yet decoded; of a large JPEG, only what is needed will be."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UsageError("is damaged, or no picture of a kind that is read here; convert it to JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        raise UsageError(TOO_LARGE) from error
    require_bounded(*image.size, image.format)
    if isinstance(image, TiffImageFile):  # its tiles may be larger than itself
        require_bounded(int(image.tag_v2.get(TILEWIDTH, 1)), int(image.tag_v2.get(TILELENGTH, 1)))
    image.draft(None, (2 * SIDE, 2 * SIDE))
    return image


def require_bounded(width: int, height: int, form: str | None = None) -> None:
    if width * height > (HEAVY_PIXELS if form in HEAVY else PIXELS):
        raise UsageError(TOO_LARGE)


def image_of(array: NDArray[Any]) -> Image.Image:
    """In 8 bits, as Pillow reads colours of 16 bits too; gray of 16 bits as it is."""
    if not isinstance(array, np.ndarray):
        raise UsageError("is no picture; give a path, a PIL image or an array")
    if array.size == 0 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise UsageError(f"has the shape {array.shape}; give [H, W], [H, W, 3] or [H, W, 4]")
    require_bounded(*array.shape[:2])
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if array.dtype == bool:
        return Image.fromarray(array * np.uint8(255))
    if np.issubdtype(array.dtype, np.uint16):
        return Image.fromarray(array if array.ndim == 2 else (array >> 8).astype(np.uint8))
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"has the dtype {array.dtype}; give uint8, uint16, bool, or float from 0 to 1")
    low, high = array.min(), array.max()
    if not 0 <= low <= high <= 1:  # nor does NaN pass
        raise UsageError(f"has values from {low:g} to {high:g}; give finite ones from 0 to 1")
    return Image.fromarray((array * 255 + 0.5).astype(np.uint8))


def picture_of(image: Image.Image) -> Picture:
    require_bounded(*image.size, image.format)
    image.load()  # a TIFF turns itself upright here, and forgets that it was not
    if image.mode == "F" or image.mode.startswith("I"):
        values = shrunk(image, "F")
        return np.repeat(values / white_of(values, image.mode), 3, axis=2).clip(0, 1)
    if image.has_transparency_data:
        return on_paper(shrunk(image, "RGBA") / np.float32(255))
    return shrunk(image, "RGB") / np.float32(255)


def shrunk(image: Image.Image, mode: str) -> NDArray[np.float32]:
    """`[height, width, channels]`, upright."""
    orientation = orientation_of(image)
    if image.mode != mode:  # or it would be copied
        image = image.convert(mode)
    scale = min(1, SIDE / max(image.size))
    width, height = (max(1, round(scale * side)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2)
    image.info.clear()  # exif_transpose would write the EXIF anew, and fail on what is broken in it
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.atleast_3d(np.asarray(ImageOps.exif_transpose(image), dtype=np.float32))


def orientation_of(image: Image.Image) -> int:
    """Of the EXIF, 1 to 8; 1 is upright."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF, of a picture that may be whole
        return 1


def white_of(values: NDArray[np.float32], mode: str) -> np.float32:
    """The number that means white: the modes for 32 bits do not say, so it is the least usual one that is enough."""
    if not np.isfinite(values).all():
        raise UsageError("has values that are not finite; give finite ones")
    usual = (65535,) if "16" in mode else (1, 255, 65535)
    return np.float32(next((white for white in usual if values.max() <= white), values.max()))


def on_paper(pixels: NDArray[np.float32]) -> Picture:
    """What is transparent becomes white around dark strokes, black around bright ones, and around a page more page."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    weights = alpha[..., 0] / max(alpha.sum(), 1e-6)
    brightness = colours.mean(axis=2)
    mean = (weights * brightness).sum()
    spread = np.sqrt((weights * (brightness - mean) ** 2).sum())
    bright, page = mean > 0.5, alpha.mean() > 0.5 and spread > 0.1
    return colours * alpha + (1 - alpha) * np.float32(bright == page)


class Rationed:
    """A file that seems to end once so much has been read."""

    def __init__(self, file: IO[bytes], ration: int) -> None:
        self.seek, self.tell, self.file, self.left = file.seek, file.tell, file, ration

    def read(self, size: int) -> bytes:
        self.left -= size
        return self.file.read(size) if self.left >= 0 else b""


def load_tags(self: ImageFileDirectory_v2, fp: IO[bytes], load: Any = ImageFileDirectory_v2.load) -> None:
    load(self, cast(IO[bytes], Rationed(fp, TAGS)))


# All tags of a TIFF or an EXIF may claim the same bytes, and Pillow reads them for each: 131 kB of JPEG become 1 GB.
ImageFileDirectory_v2.load = load_tags  # type: ignore[method-assign]

# Broken files get their one line from `load`, and no remarks on stderr; for those of libtiff Pillow has no switch.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
