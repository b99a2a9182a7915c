"""Tests of `load_image`: any picture is loaded upright, in its colours, on paper and in bounded memory."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFile

from digitnet.errors import UsageError
from digitnet.inference.photos.image_io import MAX_SIDE, Picture, load_image

ROUNDING = 1 / 255 + 1e-6
linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")


def drawing(mode: str = "RGB") -> Image.Image:
    """Return a black 7 on white above a red and blue bar; any rotation, flip or swap of channels would change it."""
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(30, 10), (60, 10), (40, 55)], fill="black", width=6)
    draw.rectangle([0, 56, 47, 63], fill=(200, 20, 30))
    draw.rectangle([48, 56, 95, 63], fill=(20, 40, 210))
    return image.convert(mode)


def shades() -> np.ndarray[Any, Any]:
    """Return an image with all 256 grays, `[32, 64]` uint8."""
    return np.repeat(np.arange(256, dtype=np.uint8), 8).reshape(32, 64)


def max_difference(one: Picture, other: Picture) -> float:
    """Return the largest difference between two pictures of the same shape."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def error_of(source: Any) -> str:
    """Return the message, which must be one line, of the error that the source leads to."""
    with pytest.raises(UsageError) as caught:
        load_image(source)
    assert str(caught.value).isprintable(), "more than one line"
    return str(caught.value)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *others: tuple[bytes, bytes]) -> bytes:
    """Return a PNG, written by hand because Pillow writes neither colours of 16 bits nor decompression bombs."""
    header = struct.pack(">LLBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *others, (b"IDAT", rows), (b"IEND", b"")]
    packed = [struct.pack(">L", len(c)) + n + c + struct.pack(">L", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def overlapping_tags(size: int, entries: int = 5000) -> bytes:
    """Return an EXIF, or a TIFF, of `size` bytes, in which every tag points to almost all of the bytes."""
    tags = b"".join(struct.pack("<HHLL", 1000 + tag, 7, size - 16, 8) for tag in range(entries))
    return (b"II*\0" + struct.pack("<LH", 8, entries) + tags + bytes(4)).ljust(size, b"\0")


# Files that are not pictures

NOT_PICTURES = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"this is no picture\n" * 50, "JPEG or PNG"),
    "report.pdf": (b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n", "JPEG or PNG"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>", "JPEG or PNG"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "convert it to JPEG or PNG"),
    "phone_mif1.heic": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "convert it to JPEG or PNG"),
    "page.html": (b"<!doctype html><title>404</title>", "JPEG or PNG"),
    "zeros.bmp": (bytes(1000), "JPEG or PNG"),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_a_file_that_is_not_a_picture_is_reported_in_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, words = NOT_PICTURES[name]
    (tmp_path / name).write_bytes(content)
    line = error_of(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: ")
    assert words in line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9])
def test_a_truncated_picture_is_reported_as_damaged(
    kind: str, fraction: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut"
    drawing().save(path, kind)
    os.truncate(path, int(path.stat().st_size * fraction))
    assert "damaged" in error_of(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["PSD", "ICO", "TGA", "EPS", "PCX", "SGI", "JPEG2000"])
def test_files_of_unsupported_formats_do_not_reach_their_decoders(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(b"8BPS\0\1" + bytes(20)) if kind == "PSD" else drawing().save(path, kind)
    assert "convert it to JPEG or PNG" in error_of(path)


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    assert error_of(tmp_path / "no.png") == (
        f"{tmp_path}/no.png: cannot be read (No such file or directory); give the path of a picture"
    )
    assert error_of(str(tmp_path)) == f"{tmp_path}: is a folder; give the path of a picture"
    assert "cannot be read" in error_of(tmp_path / "no.png" / "below.png")
    assert "cannot be read" in error_of("x" * 5000)
    assert "null" in error_of("a\0b.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be read" in error_of(tmp_path / "loop.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_read_permission_is_reported(tmp_path: Path) -> None:
    drawing().save(tmp_path / "mine.png")
    (tmp_path / "mine.png").chmod(0)
    assert "Permission denied" in error_of(tmp_path / "mine.png")


def test_pipes_sockets_and_devices_are_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    lines: list[str] = []
    for path in (tmp_path / "fifo.png", tmp_path / "socket.png", Path("/dev/zero")):
        reader = threading.Thread(target=lambda path=path: lines.append(error_of(path)), daemon=True)
        reader.start()
        reader.join(timeout=5)
        assert not reader.is_alive(), f"load_image waits for {path}"
        assert "is a pipe or a device" in lines[-1]


@pytest.mark.parametrize(
    ("name", "shown"),
    {
        b"a name 100%.png": "a name 100%.png",
        b"-rf.png": "-rf.png",
        "Zähler ५.png".encode(): "Zähler ५.png",
        b"two\nlines\r.png": r"two\nlines\r.png",
        b"\x1b[31mred\x07.png": r"\x1b[31mred\x07.png",
        b"latin\xe9.png": r"latin\udce9.png",
        "line\u2028rtl\u202e.png".encode(): r"line\u2028rtl\u202e.png",
    }.items(),
)
def test_a_file_of_any_name_is_loaded_and_its_name_is_printed_on_one_line(
    name: bytes, shown: str, tmp_path: Path
) -> None:
    if sys.platform == "darwin" and b"\xe9" in name:
        pytest.skip("file names on macOS are UTF-8")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert (
        error_of(path) == f"{tmp_path}/{shown}: cannot be read (No such file or directory); give the path of a picture"
    )
    with path.open("wb") as file:
        drawing().save(file, "PNG")
    assert max_difference(load_image(path), load_image(drawing())) == 0
    assert max_difference(load_image(str(path)), load_image(drawing())) == 0


def test_arrays_of_a_wrong_shape_dtype_or_range_are_reported() -> None:
    whole = np.zeros((8, 8))
    for bad, word in {
        "shape (8,)": whole[0], "shape (8, 8, 1)": whole[..., None], "shape (0, 8)": whole[:0],
        "shape (1, 2, 8, 8)": np.zeros((1, 2, 8, 8)), "int64": whole.astype(np.int64), "complex": whole + 1j,
        "dtype object": whole.astype(object), "dtype <U": whole.astype(str),
        "nan": whole + np.nan, "inf": whole + np.inf, "to 2;": whole + 2, "from -1": whole - 1,
    }.items():  # fmt: skip
        line = error_of(word)
        assert line.startswith("the ndarray: has ")
        assert bad in line
    hole = whole.copy()
    hole[3, 3] = np.nan
    assert "nan" in error_of(hole)
    for thing in (None, [[0, 1]], b"x.png", 7):
        assert error_of(thing) == f"the {type(thing).__name__}: is not a picture; give a path, a PIL image or an array"


def test_a_file_with_values_that_are_not_finite_is_reported(tmp_path: Path) -> None:
    for number in (np.nan, np.inf):
        Image.fromarray(np.full((9, 9), number, np.float32)).save(tmp_path / "f.tif")
        assert "not finite" in error_of(tmp_path / "f.tif")


def test_a_truncated_pil_image_is_reported_by_the_name_of_its_class(tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", 120)
    with Image.open(tmp_path / "a.png") as image:
        assert error_of(image).startswith("the PngImageFile: is damaged (")


def test_loading_changes_no_settings_of_pillow_and_of_warnings(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    error_of(tmp_path / "a.png")
    load_image(drawing())
    assert (warnings.filters, Image.MAX_IMAGE_PIXELS) == before
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_import_and_reading_change_no_settings_of_the_process(tmp_path: Path) -> None:
    """Neither a picture of any format nor a broken one leaves a change in Pillow, libtiff, logging or warnings."""
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"):
        options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
        drawing().save(tmp_path / kind, kind, **options)
        (tmp_path / f"broken {kind}").write_bytes((tmp_path / kind).read_bytes()[:300])
    code = """
import logging, sys, warnings
from pathlib import Path
import numpy, scipy.ndimage, skimage.filters, skimage.morphology
from PIL import Image, TiffImagePlugin

def settings():
    return (TiffImagePlugin.ImageFileDirectory_v2.load, TiffImagePlugin.ImageFileDirectory_v2._load_dispatch,
            list(logging.getLogger("PIL").handlers), list(warnings.filters), dict(Image.OPEN))

Image.init()
before = settings()
import digitnet
from digitnet.inference.photos.parallel import detect_files
from digitnet.inference.photos.pillow_guards import libtiff_error_handler_setter
assert settings() == before, "changed by the import"
digitnet.load("mlp")  # torch and Lightning add filters of their own
before, set_handler = settings(), libtiff_error_handler_setter()
handler = set_handler(None) if set_handler else None
if set_handler:
    set_handler(handler)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        digitnet.read(path, model="mlp")
    except ValueError:
        assert path.name.startswith("broken"), path
    assert settings() == before, path
    if set_handler:
        now = set_handler(None)
        set_handler(handler)
        assert now == handler, path
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_that_load_at_the_same_time_restore_all_settings(tmp_path: Path) -> None:
    """The settings are silenced by the first of several threads and restored by the last."""
    drawing().resize((960, 640)).save(tmp_path / "a.tif", compression="tiff_lzw")
    before = list(warnings.filters), list(logging.getLogger("PIL").handlers)
    with ThreadPoolExecutor(8) as threads:
        pictures = list(threads.map(load_image, [tmp_path / "a.tif"] * 64))
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert (list(warnings.filters), list(logging.getLogger("PIL").handlers)) == before


# Bounds on size, memory and time


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 5000), (5000, 1), (2, 2), (MAX_SIDE, 3), (MAX_SIDE + 1, MAX_SIDE - 1), (100000, 2)]
)
def test_a_picture_of_any_shape_is_reduced_to_the_maximum_side(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (0, 51, 255)).save(tmp_path / "a.png")
    picture = load_image(tmp_path / "a.png")
    assert picture.dtype == np.float32
    width, height = (max(1, round(side * min(1, MAX_SIDE / max(size)))) for side in size)
    assert picture.shape == (height, width, 3)
    assert max_difference(picture, np.broadcast_to(np.float32([0, 0.2, 1]), picture.shape)) < ROUNDING


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_reduced_picture_matches_its_original(kind: str, tmp_path: Path) -> None:
    drawing().resize((1920, 1280)).save(tmp_path / "a", kind)
    assert (
        np.abs(load_image(tmp_path / "a") - load_image(drawing().resize((MAX_SIDE, round(MAX_SIDE * 2 / 3))))).mean()
        < 0.01
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F"])
def test_a_pil_image_of_the_caller_is_not_modified(mode: str, tmp_path: Path) -> None:
    image = drawing("L").convert(mode).resize((1500, 1000))
    before = image.copy()
    load_image(image)
    assert image == before
    drawing().resize((3000, 2000)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as photo:
        load_image(photo)
        assert photo.size == (3000, 2000)


@dataclass
class LoadedInChild:
    """Peak memory and processor time of a process that loaded pictures, and a shape or an error for each."""

    megabytes: float
    seconds: float
    answers: list[str]


# The peak is not taken from ru_maxrss, which includes the memory of the parent before the child executes Python.
CHILD_CODE = """
import json, re, sys, time
from pathlib import Path
from digitnet.inference.photos.image_io import load_image

def answer(path):
    try:
        return str(load_image(path).shape)
    except ValueError as error:
        return str(error)

start = time.process_time()
answers = [answer(path) for path in sys.argv[1:]]
seconds = time.process_time() - start
assert "torch" not in sys.modules, "too slow to start in a worker process"
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6
print(json.dumps([peak, seconds, answers]))
"""


def load_in_child(*paths: Path) -> LoadedInChild:
    """Load pictures in a new process in which warnings are errors; fail if it writes to stderr."""
    command = [sys.executable, "-W", "error", "-c", CHILD_CODE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return LoadedInChild(*json.loads(done.stdout))


@linux
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """The file has 30000 × 30000 pixels in 110 kB."""
    rows = zlib.compress(bytes(3751 * 30000))
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, rows))
    child = load_in_child(tmp_path / "bomb.png")
    assert child.answers == [f"{tmp_path}/bomb.png: has too many pixels; scale it down to 50 megapixels"]
    assert child.megabytes < 100


@linux
def test_a_photo_of_12_megapixels_takes_less_than_100_mb_and_0_3_seconds(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=92)
    child = load_in_child(tmp_path / "a.jpg")
    assert child.answers == [f"({MAX_SIDE * 3 // 4}, {MAX_SIDE}, 3)"]
    assert child.megabytes < 100
    assert child.seconds < 0.3


@linux
def test_a_photo_of_50_megapixels_takes_less_than_200_mb(tmp_path: Path) -> None:
    Image.new("RGB", (8192, 6144)).save(tmp_path / "a.jpg")
    child = load_in_child(tmp_path / "a.jpg")
    assert child.answers == [f"({MAX_SIDE * 3 // 4}, {MAX_SIDE}, 3)"]
    assert child.megabytes < 200


HEAVIEST: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    "PNG": ("LA", (8192, 8192), {"compress_level": 1}),
    "WEBP": ("RGBA", (8192, 6400), {"lossless": True, "method": 0, "quality": 0}),
    "AVIF": ("RGBA", (8192, 6400), {"speed": 10}),
    "JPEG": ("CMYK", (8192, 8192), {"progressive": True}),
    "TIFF": ("LA", (8192, 8192), {"compression": "tiff_deflate"}),
}


@linux
@pytest.mark.fault
@pytest.mark.parametrize("kind", HEAVIEST)
def test_the_largest_accepted_picture_takes_less_than_1_gb(kind: str, tmp_path: Path) -> None:
    mode, size, options = HEAVIEST[kind]
    Image.new(mode, size, 77).save(tmp_path / "a", kind, **options)
    child = load_in_child(tmp_path / "a")
    assert child.answers == [f"({MAX_SIDE * size[1] // size[0]}, {MAX_SIDE}, 3)"]
    assert child.megabytes < 1000


def test_too_many_pixels_are_refused_in_files_images_and_arrays(tmp_path: Path) -> None:
    line = "has too many pixels; scale it down to 50 megapixels"
    for side in (8200, 10_000):  # Pillow itself accepts the first and warns of the second
        (tmp_path / "a.png").write_bytes(png(side, side, 8, 2, b""))
        assert error_of(tmp_path / "a.png").endswith(line)
    assert error_of(Image.new("1", (8200, 8200))) == f"the Image: {line}"
    assert error_of(np.broadcast_to(np.uint8(0), (10**6, 10**6, 3))) == f"the ndarray: {line}"


@pytest.mark.fault
def test_the_limit_on_pixels_is_lower_for_webp(tmp_path: Path) -> None:
    Image.new("RGB", (8200, 6500)).save(tmp_path / "a.webp", lossless=True, method=0, quality=0)
    assert "too many pixels" in error_of(tmp_path / "a.webp")


def test_a_file_of_5_gb_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "a.bmp").open("wb") as file:
        file.truncate(5 * 2**30)
    assert error_of(tmp_path / "a.bmp").endswith("a.bmp: is larger than 256 MB; scale it down")


@linux
def test_overlapping_tags_do_not_take_memory(tmp_path: Path) -> None:
    """Pillow alone takes 600 MB for the JPEG, of 130 kB, and 5 GB each for the others, of 1 MB."""
    tags = overlapping_tags(130_000)
    segments = [b"Exif\0\0" + tags[at : at + 65_000] for at in (0, 65_000)]
    marked = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment for segment in segments)
    drawing().save(tmp_path / "a.jpg")
    plain = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(plain[:2] + marked + plain[20:])  # in place of the JFIF segment
    drawing().save(tmp_path / "a.png", exif=overlapping_tags(10**6))
    drawing().save(tmp_path / "a.webp", exif=overlapping_tags(10**6))
    (tmp_path / "a.tif").write_bytes(overlapping_tags(10**6))
    child = load_in_child(*(tmp_path / name for name in ("a.jpg", "a.png", "a.webp", "a.tif")))
    assert child.answers[:3] == ["(64, 96, 3)"] * 3
    assert "a.tif: is damaged" in child.answers[3]
    assert child.megabytes < 100


def tiff(content: bytes, **tags: int) -> bytes:
    """Return a gray TIFF that is compressed with zlib, with one entry of 4 bytes for each tag."""
    usual = {"_256": 64, "_257": 64, "_258": 8, "_259": 8, "_262": 1, "_277": 1}
    values = sorted((int(tag[1:]), value) for tag, value in (usual | tags).items())
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in values)
    return (b"II*\0" + struct.pack("<LH", 8, len(values)) + entries + bytes(4)).ljust(200, b"\0") + content


def test_an_avif_with_overlapping_tags_is_refused(tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.avif", exif=overlapping_tags(20_000, entries=1000))
    assert error_of(tmp_path / "a.avif").endswith("a.avif: has more than 2 MB of EXIF tags; save it without them")


@linux
def test_overlapping_tags_in_the_exif_directory_of_a_tiff_do_not_take_memory(tmp_path: Path) -> None:
    """Pillow parses this directory when it decodes the picture, and alone takes 5 GB."""
    strip = zlib.compress(bytes(64 * 64))
    whole = tiff(strip, _273=200, _278=64, _279=len(strip), _34665=300)
    tags = b"".join(struct.pack("<HHLL", 1000 + tag, 7, 10**6, 8) for tag in range(5000))
    whole = (whole.ljust(300, b"\0") + struct.pack("<H", 5000) + tags + bytes(4)).ljust(10**6 + 8, b"\0")
    (tmp_path / "a.tif").write_bytes(whole)
    child = load_in_child(tmp_path / "a.tif")
    assert child.answers == ["(64, 64, 3)"]
    assert child.megabytes < 100


@pytest.mark.parametrize("size", [10**5, 2**21 - 1000, 2**21, 2**22 - 600, 10**7])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_with_large_private_tags_is_loaded(compression: str, size: int, tmp_path: Path) -> None:
    """Photoshop stores the layers of a picture, many megabytes, in tag 37724."""
    image, exif = rotated(6)
    exif[37724] = bytes(size)
    image.save(tmp_path / "a.tif", exif=exif, compression=compression)
    assert (tmp_path / "a.tif").stat().st_size > size
    assert max_difference(load_image(tmp_path / "a.tif"), load_image(drawing())) == 0


@linux
def test_a_tiff_tile_with_too_many_pixels_is_refused(tmp_path: Path) -> None:
    """Pillow alone takes as much as the tile: 900 MB, for 64 × 64 pixels."""
    tile = zlib.compress(bytes(10**6), 9)
    (tmp_path / "a.tif").write_bytes(tiff(tile, _322=30000, _323=30000, _324=200, _325=len(tile)))
    child = load_in_child(tmp_path / "a.tif")
    assert "too many pixels" in child.answers[0]
    assert child.megabytes < 100


@linux
def test_pillow_and_libtiff_print_nothing(tmp_path: Path) -> None:
    """Pillow would log that the first has too many channels, libtiff print that the second cannot be decompressed."""
    (tmp_path / "a.tif").write_bytes(tiff(b"", _277=1000))
    (tmp_path / "b.tif").write_bytes(tiff(b"no zlib", _273=200, _278=64, _279=7))
    child = load_in_child(tmp_path / "a.tif", tmp_path / "b.tif")  # asserts that stderr is empty
    assert all("is damaged" in answer for answer in child.answers)


# Bit depths


def png_of_16_bits(gray: np.ndarray[Any, Any], kind: int) -> bytes:
    """Return a PNG with 16 bits per channel; colour type 0 is gray, 2 RGB, 4 gray with alpha, 6 RGBA."""
    alpha = np.full_like(gray, 255)
    channels = {0: [gray], 2: [gray] * 3, 4: [gray, alpha], 6: [gray] * 3 + [alpha]}[kind]
    rows = (np.stack(channels, axis=2).astype(">u2") * 257).astype(">u2")
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(gray.shape[1], gray.shape[0], 16, kind, zlib.compress(content))


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_a_png_of_16_bits_equals_the_same_picture_of_8_bits(kind: int, tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png_of_16_bits(shades(), kind))
    assert max_difference(load_image(tmp_path / "deep.png"), load_image(shades())) < ROUNDING


DEEP_FILES: dict[str, Callable[[Path, np.ndarray[Any, Any]], None]] = {
    "a.png": lambda path, gray: Image.fromarray(gray * np.uint16(257)).save(path),
    "little.tif": lambda path, gray: Image.fromarray(gray * np.uint16(257)).save(path),
    "big.tif": lambda path, gray: Image.fromarray((gray * np.uint16(257)).astype(">u2")).save(path),
    "packed.tif": lambda path, gray: Image.fromarray(gray * np.uint16(257)).save(path, compression="tiff_lzw"),
    "integer.tif": lambda path, gray: Image.fromarray(gray * np.int32(257)).save(path),
    "bytes_in_integers.tif": lambda path, gray: Image.fromarray(gray.astype(np.int32)).save(path),
    "float.tif": lambda path, gray: Image.fromarray(gray / np.float32(255)).save(path),
    "bytes_in_floats.tif": lambda path, gray: Image.fromarray(gray.astype(np.float32)).save(path),
    "a.pgm": lambda path, gray: Image.fromarray(gray * np.int32(257)).save(path),
    "a.pfm": lambda path, gray: Image.fromarray(gray / np.float32(255)).save(path),
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_a_file_of_16_or_32_bits_equals_the_same_picture_of_8_bits(name: str, tmp_path: Path) -> None:
    DEEP_FILES[name](tmp_path / name, shades())
    assert max_difference(load_image(tmp_path / name), load_image(shades())) < ROUNDING


@pytest.mark.parametrize("colour", ["gray", "rgb", "rgba"])
def test_arrays_of_all_dtypes_give_the_same_picture(colour: str) -> None:
    gray = shades()
    whole = {"gray": gray, "rgb": np.stack([gray, 255 - gray, gray // 2], axis=2)}
    whole["rgba"] = np.dstack([whole["rgb"], np.full_like(gray, 255)])
    array = whole[colour]
    expected = np.asarray(Image.fromarray(array).convert("RGB")) / np.float32(255)
    assert max_difference(load_image(array), expected) < 1e-6
    deep = array * np.uint16(257)
    scaled = array / np.float64(255)
    for twin in (deep, deep.astype(">u2"), scaled, scaled.astype(np.float32), scaled.astype(np.float16)):
        assert max_difference(load_image(twin), expected) < ROUNDING
    assert max_difference(load_image(array[::-1, ::2]), np.ascontiguousarray(expected[::-1, ::2])) < 1e-6
    assert max_difference(load_image(array > 127), load_image((array > 127) * np.uint8(255))) == 0


def test_a_faint_picture_of_16_bits_keeps_its_shades() -> None:
    """A conversion to 8 bits would keep only 16 of the 4096 grays of a 12-bit camera."""
    assert len(np.unique(load_image(np.arange(4096, dtype=np.uint16).reshape(64, 64)))) == 4096


def test_the_noise_of_a_black_picture_of_16_bits_stays_dark() -> None:
    """Only values of 32 bits may be interpreted as bytes."""
    assert load_image(shades().astype(np.uint16)).max() < ROUNDING


# Colours

COLOURS: dict[
    str, tuple[str, str, dict[str, Any], float]
] = {  # mode, format, options of save, tolerance in levels of 255
    "RGB": ("RGB", "PNG", {}, 0),
    "palette": ("P", "PNG", {}, 0),
    "gif": ("P", "GIF", {}, 0),
    "bmp": ("RGB", "BMP", {}, 0),
    "ppm": ("RGB", "PPM", {}, 0),
    "tiff": ("RGB", "TIFF", {}, 0),
    "tiff_cmyk": ("CMYK", "TIFF", {}, 0),
    "tiff_lab": ("LAB", "TIFF", {}, 4),
    "tiff_jpeg": ("RGB", "TIFF", {"compression": "jpeg", "quality": 95}, 50),
    "jpeg": ("RGB", "JPEG", {"quality": 100, "subsampling": 0}, 4),
    "jpeg_cmyk": ("CMYK", "JPEG", {"quality": 100, "subsampling": 0}, 4),  # inverted, as Adobe does
    "jpeg_rgb": ("RGB", "JPEG", {"quality": 100, "keep_rgb": True}, 4),
    "webp": ("RGB", "WEBP", {"lossless": True}, 0),
    "avif": ("RGB", "AVIF", {"quality": 100, "subsampling": "4:4:4"}, 8),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_preserved_in_every_format_and_mode(name: str, tmp_path: Path) -> None:
    mode, kind, options, off = COLOURS[name]
    image = drawing().quantize(16) if mode == "P" else drawing(mode)
    image.save(tmp_path / "a", kind, **options)
    assert max_difference(load_image(tmp_path / "a"), np.asarray(drawing()) / np.float32(255)) <= off / 255 + 1e-6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_bilevel_and_gray_pictures_are_preserved(mode: str, kind: str, tmp_path: Path) -> None:
    drawing(mode).save(tmp_path / "a", kind)
    assert max_difference(load_image(tmp_path / "a"), np.asarray(drawing(mode).convert("RGB")) / np.float32(255)) < 1e-6


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_loaded(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    others = [drawing().transpose(Image.Transpose.ROTATE_180), Image.new("RGB", (96, 64), "red")]
    drawing().save(tmp_path / "all", kind, save_all=True, append_images=others, **options)
    drawing().save(tmp_path / "one", "JPEG" if kind == "MPO" else kind, **options)
    with Image.open(tmp_path / "all") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    assert np.abs(load_image(tmp_path / "all") - load_image(tmp_path / "one")).mean() < 0.01


# Transparency


def strokes(colour: tuple[int, int, int], size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a soft-edged 7 of one colour on a transparent background."""
    mask = Image.new("L", (960, 640))
    ImageDraw.Draw(mask).line([(300, 100), (600, 100), (400, 550)], fill=255, width=60)
    image = Image.new("RGBA", size, (*colour, 0))
    image.putalpha(mask.resize(size))
    return image


def on(paper: str, image: Image.Image) -> Picture:
    """Load an image that was composited on paper of a colour."""
    return load_image(Image.alpha_composite(Image.new("RGBA", image.size, paper), image.convert("RGBA")).convert("RGB"))


@pytest.mark.parametrize(
    ("colour", "paper"),
    [((0, 0, 0), "white"), ((20, 40, 210), "white"), ((200, 0, 0), "white"),
     ((255, 255, 255), "black"), ((255, 240, 60), "black"), ((150, 230, 255), "black")],
)  # fmt: skip
def test_strokes_on_a_transparent_background_get_paper_of_contrasting_colour(
    colour: tuple[int, int, int], paper: str, tmp_path: Path
) -> None:
    image = strokes(colour)
    assert max_difference(load_image(image), on(paper, image)) < ROUNDING
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}}.items():
        image.save(tmp_path / "a", kind, **options)
        assert max_difference(load_image(tmp_path / "a"), on(paper, image)) < ROUNDING


def test_all_encodings_of_transparency_give_the_same_picture(tmp_path: Path) -> None:
    hard = strokes((0, 0, 0)).getchannel("A").point(lambda value: 255 * (value > 127))
    expected = on("white", Image.merge("LA", (Image.new("L", hard.size), hard)))
    mask = np.asarray(hard) > 0
    Image.merge("LA", (Image.new("L", hard.size), hard)).save(tmp_path / "la.png")
    Image.fromarray(np.where(mask, 0, 9).astype(np.uint8)).save(tmp_path / "l.png", transparency=9)
    Image.fromarray(np.where(mask[..., None], 0, 9).astype(np.uint8).repeat(3, 2)).save(
        tmp_path / "rgb.png", transparency=(9, 9, 9)
    )
    palette = Image.fromarray(mask.astype(np.uint8))
    palette.putpalette([0, 0, 0, 0, 0, 0])  # both black
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "bytes.png", transparency=b"\0\xff")
    palette.save(tmp_path / "p.gif", transparency=0)
    for name in ("la.png", "l.png", "rgb.png", "p.png", "bytes.png", "p.gif"):
        assert max_difference(load_image(tmp_path / name), expected) < ROUNDING, name
    assert max_difference(load_image(palette.convert("PA")), load_image(Image.new("L", hard.size))) == 0  # opaque


def test_colours_of_transparent_pixels_have_no_effect() -> None:
    """The reduction averages neighbouring pixels, and must ignore the invisible ones."""
    noise = np.random.default_rng(1).integers(0, 256, (1280, 1920, 3), dtype=np.uint8)
    image = strokes((0, 0, 0), (1920, 1280))
    hidden = np.where(np.asarray(image)[..., 3:] > 0, 0, noise)
    image = Image.merge("RGBA", (*Image.fromarray(hidden.astype(np.uint8)).split(), image.getchannel("A")))
    assert max_difference(load_image(image), on("white", image)) < 2 * ROUNDING


@pytest.mark.parametrize(("page", "ink"), [("white", "black"), ("black", "white")])
def test_transparent_corners_of_a_page_get_the_colour_of_the_page(page: str, ink: str) -> None:
    """The corners of a screenshot of a window would be ink if they had the contrasting colour."""
    image = Image.new("RGB", (96, 64), page)
    ImageDraw.Draw(image).line([(30, 10), (60, 10), (40, 55)], fill=ink, width=6)
    expected = load_image(image)
    corners = Image.new("L", image.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle([2, 2, 93, 61], radius=9, fill=255)
    image.putalpha(corners)
    assert max_difference(load_image(image), expected) < ROUNDING


def test_a_fully_transparent_picture_is_white() -> None:
    assert load_image(Image.new("RGBA", (9, 9), (0, 0, 0, 0))).min() == 1


def test_an_opaque_alpha_channel_has_no_effect() -> None:
    assert max_difference(load_image(drawing("RGBA")), load_image(drawing())) < 1e-6


# Orientation

TURNS = {  # EXIF orientation: how a camera in this orientation stores an upright picture
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
CAMERAS: dict[str, dict[str, Any]] = {
    "PNG": {}, "TIFF": {}, "TIFF lzw": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}  # fmt: skip


def rotated(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """Return the drawing as a camera would store it, and the EXIF with its orientation."""
    turn, exif = TURNS[orientation], Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return drawing() if turn is None else drawing().transpose(turn), exif


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_of_any_orientation_is_loaded_upright(orientation: int, camera: str, tmp_path: Path) -> None:
    image, exif = rotated(orientation)
    image.save(tmp_path / "a", camera.split()[0], exif=exif, **CAMERAS[camera])
    lossy = camera in ("JPEG", "AVIF")
    assert max_difference(load_image(tmp_path / "a"), load_image(drawing())) < (8 / 255 if lossy else 1e-6)
    with Image.open(tmp_path / "a") as opened:
        assert max_difference(load_image(opened), load_image(tmp_path / "a")) == 0


def test_a_photo_that_is_reduced_is_loaded_upright(tmp_path: Path) -> None:
    image, exif = rotated(6)
    image.resize((2000, 3000)).save(tmp_path / "a.jpg", exif=exif)
    assert (
        np.abs(
            load_image(tmp_path / "a.jpg") - load_image(drawing().resize((MAX_SIDE, round(MAX_SIDE * 2 / 3))))
        ).mean()
        < 0.01
    )


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_counts_as_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    drawing().save(tmp_path / "a.png", exif=exif)
    assert max_difference(load_image(tmp_path / "a.png"), load_image(drawing())) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("seed", range(10))
def test_a_picture_with_a_broken_exif_is_loaded(kind: str, seed: int, tmp_path: Path) -> None:
    draw, exif = np.random.default_rng(seed), rotated(3)[1].tobytes()
    broken = exif[: draw.integers(6, len(exif))] if seed % 2 else exif[:6] + draw.bytes(len(exif) - 6)
    drawing().save(tmp_path / "a", kind, exif=broken)
    assert load_image(tmp_path / "a").shape == (64, 96, 3)


def test_the_orientation_is_applied_even_if_other_exif_tags_are_broken(tmp_path: Path) -> None:
    """Pillow's `exif_transpose` alone fails on a name that is a number, as it writes the EXIF anew."""
    image, _ = rotated(6)
    values = {271: (11, 1, 0), 274: (3, 1, 6), 0x8769: (4, 1, 2**31), 37500: (5, 10**6, 2**31)}
    tags = b"".join(struct.pack("<HHLL", tag, *value) for tag, value in values.items())
    image.save(tmp_path / "a.png", exif=b"II*\0" + struct.pack("<LH", 8, len(values)) + tags + bytes(4))
    assert max_difference(load_image(tmp_path / "a.png"), load_image(drawing())) == 0
