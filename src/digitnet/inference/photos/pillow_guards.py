"""Open pictures with Pillow such that broken or hostile metadata costs little memory and nothing is printed.

All tags of a TIFF or an EXIF may point to the same bytes, and Pillow reads these for each tag: a JPEG of 131 kB then
takes 1 GB. Pillow has no limit of its own, so that this module gives it files that end early.
"""

import ctypes
import functools
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import SEEK_SET, BytesIO
from typing import IO, Any, cast

from PIL import AvifImagePlugin, Image, TiffTags, _imaging
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from digitnet.errors import UsageError

MAX_TAG_BYTES = 2**21  # in one directory of a TIFF or an EXIF


class _LimitedReader:
    """A file that appears to end once a number of bytes has been read.

    Pillow reads the first directory of a TIFF twice while it opens the file, and has the full allowance both times.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.tell, self.fileno = file, file.tell, file.fileno
        self.remaining: int | None = MAX_TAG_BYTES  # None: no limit
        self.exhausted = False
        self._first_directory: int | None = None
        self._was_reread = False

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        if offset and self._first_directory is None:
            self._first_directory = offset
        elif offset == self._first_directory and not self._was_reread:
            self._was_reread, self.remaining = True, MAX_TAG_BYTES
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if self.remaining is not None:
            self.remaining -= size
            if size < 0 or self.remaining < 0:
                self.exhausted = True
                return b""
        return self.file.read(size)


class _BoundedJpeg(JpegImageFile):
    """A JPEG whose EXIF is bounded: Pillow parses it when it opens the file, to find the resolution."""

    def getexif(self) -> Image.Exif:
        return bounded_exif(self.info, super().getexif)


def open_image(file: IO[bytes], formats: tuple[str, ...]) -> Image.Image:
    """Open a picture like `PIL.Image.open`, with bounds on the metadata that Pillow parses meanwhile.

    Args:
        file: The file, at its beginning.
        formats: Names of the formats that are accepted, as for `PIL.Image.open`.

    Returns:
        The picture, not yet decoded. Of a file with several, it is the first.

    Raises:
        UsageError: If an AVIF file has EXIF tags of more than `MAX_TAG_BYTES`.
        Exception: Whatever Pillow raises for a broken file.
    """
    prefix = file.read(16)
    file.seek(0)
    if prefix.startswith(b"\xff\xd8\xff"):
        return _BoundedJpeg(file)
    if prefix.startswith((b"II", b"MM")):
        image = Image.open(cast(IO[bytes], _LimitedReader(file)), formats=formats)
        if isinstance(image, TiffImageFile):
            _parse_tiff_directories(image)
        return image
    if prefix[4:8] == b"ftyp":
        _check_avif_exif(file.read())
        file.seek(0)
    return Image.open(file, formats=formats)


def bounded_exif(info: Mapping[Any, Any], getexif: Callable[[], Image.Exif]) -> Image.Exif:
    """Return the EXIF of a picture, or what its first `MAX_TAG_BYTES` bytes of tags hold.

    Args:
        info: The attribute `info` of the picture.
        getexif: The method `getexif` of the picture. It is called only if the tags are within the limit.
    """
    data = info.get("exif")
    exif, reader = Image.Exif(), None
    with suppress(Exception):  # what is broken in other ways is left to `getexif`
        if data is None and "Raw profile type exif" in info:  # of ImageMagick, in a PNG
            data = bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
        if data:
            start = re.match(rb"(?:Exif\0\0)*", data)
            reader = _LimitedReader(BytesIO(data[start.end() if start else 0 :]))
            exif.load_from_fp(cast(IO[bytes], reader))
    return exif if reader and reader.exhausted else getexif()


def _check_avif_exif(content: bytes) -> None:
    """Refuse an AVIF with too large an EXIF, which Pillow would parse when it opens the file."""
    if not AvifImagePlugin.SUPPORTED:
        return
    try:
        decoder = cast(Any, AvifImagePlugin)._avif.AvifDecoder(content, AvifImagePlugin.DECODE_CODEC_CHOICE, 1)
    except Exception:  # not an AVIF, or a broken one: Pillow refuses it as well
        return
    exif = decoder.get_info()[4]
    info, over_limit = {"exif": exif}, Image.Exif()
    if exif and bounded_exif(info, lambda: over_limit) is not over_limit:
        raise UsageError(f"has more than {MAX_TAG_BYTES >> 20} MB of EXIF tags; save it without them")


def _parse_tiff_directories(image: TiffImageFile) -> None:
    """Parse the directories that Pillow would parse while it decodes a TIFF, and then remove the limit on its reads."""
    reader = cast(_LimitedReader, image.fp)
    reader.remaining = MAX_TAG_BYTES
    exif = image.getexif()
    for group in () if image.is_animated else TiffTags.TAGS_V2_GROUPS:
        if group in exif:
            reader.remaining = MAX_TAG_BYTES
            exif.get_ifd(group)  # which keeps the result
    reader.remaining = None


_lock = threading.Lock()
_silenced_readers = 0
_restore = ExitStack()


@contextmanager
def silence_pillow() -> Iterator[None]:
    """Suppress the warnings of Pillow, its log on stderr and the error messages of libtiff inside the block.

    These settings belong to the whole process. The first of several threads in this block changes them, and the last
    one restores them.
    """
    global _silenced_readers
    with _lock:
        if _silenced_readers == 0:
            _silence()
        _silenced_readers += 1
    try:
        yield
    finally:
        with _lock:
            _silenced_readers -= 1
            if _silenced_readers == 0:
                _restore.close()


def _silence() -> None:
    _restore.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(handler)  # without any handler, Python would print the errors
    _restore.callback(logger.removeHandler, handler)
    set_handler = libtiff_error_handler_setter()
    if set_handler:
        _restore.callback(set_handler, set_handler(None))


@functools.cache
def libtiff_error_handler_setter() -> Callable[[int | None], int | None] | None:
    """Return libtiff's `TIFFSetErrorHandler`, for which Pillow has no equivalent; None if it cannot be found.

    Returns:
        A function that takes the address of the new handler and returns the address of the previous one.
    """
    try:
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return None
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return cast(Callable[[int | None], int | None], function)
