"""Load picture files, PIL images and arrays: bounded before they are decoded, upright, on paper, from 0 to 1."""

import stat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from digitnet.errors import UsageError
from digitnet.inference.photos import pillow_guards

MAX_SIDE = 480  # pixels of the longest side of a loaded picture
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # the only decoders that a file can reach

# Within these bounds the worst picture takes less than 1 GB of memory.
MAX_FILE_BYTES = 2**28
MAX_PIXELS = 64 * 2**20
MEMORY_HEAVY_FORMATS = ("WEBP", "AVIF")  # their decoders hold a picture four times
MAX_HEAVY_PIXELS = 50 * 2**20

UPRIGHT = 1  # the EXIF orientation of a picture that need not be rotated

TOO_MANY_PIXELS = "has too many pixels; scale it down to 50 megapixels"

Picture = NDArray[np.float32]  # [height, width, 3], RGB colours from 0 to 1


def load_image(source: str | Path | Image.Image | NDArray[Any]) -> Picture:
    """Load a picture and reduce it to at most `MAX_SIDE` pixels on its longest side.

    The picture is rotated as its EXIF orientation demands. Transparent parts become paper.

    Args:
        source: The path of a file; a PIL image; or an array `[H, W]`, `[H, W, 3]` or, with alpha, `[H, W, 4]` of dtype
            uint8, uint16, bool, or float from 0 to 1.

    Returns:
        RGB colours `[height, width, 3]`, from 0 to 1.

    Raises:
        UsageError: If the source is not a picture, is damaged or is too large.
    """
    return load_with_size(source)[0]


def load_with_size(source: str | Path | Image.Image | NDArray[Any]) -> tuple[Picture, tuple[int, int]]:
    """Load a picture, and return its size before it was reduced too.

    Args:
        source: A path, a PIL image or an array (see `load_image`).

    Returns:
        RGB colours `[height, width, 3]`, from 0 to 1, and the width and height in pixels that the upright picture had.

    Raises:
        UsageError: If the source is not a picture, is damaged or is too large.
    """
    try:
        with pillow_guards.silence_pillow():
            if isinstance(source, str | Path):
                with _open_regular_file(Path(source)) as file, _open_bounded(file) as image:
                    size = image.size
                    image.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))  # decode no more of a large JPEG than is needed
                    return _with_upright_size(_to_rgb(image), size)
            image = source if isinstance(source, Image.Image) else _from_array(source)
            return _with_upright_size(_to_rgb(image), image.size)
    except Exception as error:  # Pillow raises whatever the broken bytes lead to: six kinds were seen
        name = source if isinstance(source, str | Path) else f"the {type(source).__name__}"
        what = error if isinstance(error, UsageError) else f"is damaged ({error}); save or copy it again"
        raise UsageError(printable(f"{name}: {what}")) from error


def _with_upright_size(picture: Picture, size: tuple[int, int]) -> tuple[Picture, tuple[int, int]]:
    """Return an upright picture, and the size before it was reduced, whose sides a rotation may have exchanged."""
    height, width = picture.shape[:2]
    is_rotated = (width - height) * (size[0] - size[1]) < 0
    return picture, (size[1], size[0]) if is_rotated else size


def printable(text: str) -> str:
    """Escape all unprintable characters, line breaks included, so that any file name fits in one line.

    Args:
        text: Any text, such as a path with undecodable bytes.

    Returns:
        The text on one line.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _open_regular_file(path: Path) -> IO[bytes]:
    """Open a file, but never a fifo, as that would wait until a program writes into it."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError("is a folder; give the path of a picture")
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("is a pipe or a device; save the picture to a file first")
        if status.st_size == 0:
            raise UsageError("is empty; save or copy it again")
        if status.st_size > MAX_FILE_BYTES:
            raise UsageError(f"is larger than {MAX_FILE_BYTES >> 20} MB; scale it down")
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror}); give the path of a picture") from error


def _open_bounded(file: IO[bytes]) -> Image.Image:
    """Open a picture and check its size before it is decoded."""
    try:
        image = pillow_guards.open_image(file, FORMATS)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise UsageError("is damaged or not a picture of a supported format; convert it to JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        raise UsageError(TOO_MANY_PIXELS) from error
    _check_pixels(*image.size, image.format)
    if isinstance(image, TiffImageFile):  # its tiles may be larger than the picture
        _check_pixels(int(image.tag_v2.get(TILEWIDTH, 1)), int(image.tag_v2.get(TILELENGTH, 1)))
    return image


def _check_pixels(width: int, height: int, image_format: str | None = None) -> None:
    """Raise an error if a picture of this size would take too much memory."""
    if width * height > (MAX_HEAVY_PIXELS if image_format in MEMORY_HEAVY_FORMATS else MAX_PIXELS):
        raise UsageError(TOO_MANY_PIXELS)


def _from_array(array: NDArray[Any]) -> Image.Image:
    """Convert an array to an image of 8 bits, as Pillow has no colours of 16 bits; gray of 16 bits remains so."""
    if not isinstance(array, np.ndarray):
        raise UsageError("is not a picture; give a path, a PIL image or an array")
    if array.size == 0 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise UsageError(f"has the shape {array.shape}; give [H, W], [H, W, 3] or [H, W, 4]")
    _check_pixels(*array.shape[:2])
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if array.dtype == bool:
        return Image.fromarray(array * np.uint8(255))
    if np.issubdtype(array.dtype, np.uint16):
        return Image.fromarray(array if array.ndim == 2 else (array >> 8).astype(np.uint8))
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"has the dtype {array.dtype}; give uint8, uint16, bool, or float from 0 to 1")
    low, high = array.min(), array.max()
    if not 0 <= low <= high <= 1:  # false for NaN as well
        raise UsageError(f"has values from {low:g} to {high:g}; give finite ones from 0 to 1")
    return Image.fromarray((array * 255 + 0.5).astype(np.uint8))


def _to_rgb(image: Image.Image) -> Picture:
    """Decode, reduce and convert an image of any mode."""
    _check_pixels(*image.size, image.format)
    image.load()  # Pillow rotates a TIFF here, and removes its orientation
    if image.mode == "F" or image.mode.startswith("I"):
        values = _downscale(image, "F")
        return np.repeat(values / _white_level(values, image.mode), 3, axis=2).clip(0, 1)
    if image.has_transparency_data:
        return _composite_alpha(np.divide(_downscale(image, "RGBA"), 255, dtype=np.float32))
    return np.divide(_downscale(image, "RGB"), 255, dtype=np.float32)


def _downscale(image: Image.Image, mode: str) -> NDArray[Any]:
    """Return the upright image `[height, width, channels]` in a mode, at most `MAX_SIDE` pixels wide and high.

    Its numbers are those of Pillow: uint8, or float32 in mode F.
    """
    orientation = _orientation(image)
    if image.mode != mode:  # convert would copy the image even so
        image = image.convert(mode)
    scale = min(1, MAX_SIDE / max(image.size))
    width, height = (max(1, round(scale * side)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2)
    if orientation != UPRIGHT:
        image.info.clear()  # exif_transpose would write the EXIF anew, and fail if it is broken
        image.getexif()[ExifTags.Base.Orientation] = orientation
        image = ImageOps.exif_transpose(image)
    return np.atleast_3d(np.asarray(image))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8."""
    try:
        exif = pillow_guards.bounded_exif(image.info, image.getexif)
        return int(exif.get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # the EXIF is broken, but the picture may be intact
        return UPRIGHT


def _white_level(values: NDArray[np.float32], mode: str) -> np.float32:
    """Return the value that means white.

    The modes of 32 bits do not define it, so the smallest of the usual ones is taken that no value exceeds.
    """
    if not np.isfinite(values).all():
        raise UsageError("has values that are not finite; give finite ones")
    usual = (65535,) if "16" in mode else (1, 255, 65535)
    return np.float32(next((white for white in usual if values.max() <= white), values.max()))


def _composite_alpha(pixels: NDArray[np.float32]) -> Picture:
    """Composite RGBA on paper: white around dark strokes, black around bright ones, more page around a page."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    weights = alpha[..., 0] / np.maximum(alpha.sum(), np.float32(1e-6))
    brightness = colours.mean(axis=2)
    mean = (weights * brightness).sum()
    spread = np.sqrt((weights * (brightness - mean) ** 2).sum())
    is_bright, is_page = mean > 0.5, alpha.mean() > 0.5 and spread > 0.1
    return colours * alpha + (1 - alpha) * np.float32(is_bright == is_page)
