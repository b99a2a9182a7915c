"""Any picture comes in upright, in its colours, on paper and in bounds; what is none gets one line."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFile

from digitnet.errors import UsageError
from digitnet.inference.photos.image_io import SIDE, Picture, load

ROUNDING = 1 / 255 + 1e-6
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")


def drawing(mode: str = "RGB") -> Image.Image:
    """A black 7 on white with a bar of red and blue: no turn and no swap of colours leaves it as it is."""
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(30, 10), (60, 10), (40, 55)], fill="black", width=6)
    draw.rectangle([0, 56, 47, 63], fill=(200, 20, 30))
    draw.rectangle([48, 56, 95, 63], fill=(20, 40, 210))
    return image.convert(mode)


def shades() -> np.ndarray[Any, Any]:
    """Every gray there is, `[32, 64]` uint8."""
    return np.repeat(np.arange(256, dtype=np.uint8), 8).reshape(32, 64)


def apart(one: Picture, other: Picture) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


def refusal(source: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(source)
    assert str(caught.value).isprintable(), "more than one line"
    return str(caught.value)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *others: tuple[bytes, bytes]) -> bytes:
    """Written by hand, as Pillow writes no colours of 16 bits, and no bombs."""
    header = struct.pack(">LLBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *others, (b"IDAT", rows), (b"IEND", b"")]
    packed = [struct.pack(">L", len(c)) + n + c + struct.pack(">L", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def greedy_tags(size: int, entries: int = 5000) -> bytes:
    """An EXIF, or a TIFF, of so many bytes, all of which every one of its tags claims for itself."""
    tags = b"".join(struct.pack("<HHLL", 1000 + tag, 7, size - 16, 8) for tag in range(entries))
    return (b"II*\0" + struct.pack("<LH", 8, entries) + tags + bytes(4)).ljust(size, b"\0")


# ------------------------------------------------------------------------------------------------- what is no picture

NO_PICTURES = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"this is no picture\n" * 50, "JPEG or PNG"),
    "report.pdf": (b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n", "JPEG or PNG"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0'/></svg>", "JPEG or PNG"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "convert it to JPEG or PNG"),
    "phone_mif1.heic": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "convert it to JPEG or PNG"),
    "page.html": (b"<!doctype html><title>404</title>", "JPEG or PNG"),
    "zeros.bmp": (bytes(1000), "JPEG or PNG"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_gets_one_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, words = NO_PICTURES[name]
    (tmp_path / name).write_bytes(content)
    line = refusal(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: ")
    assert words in line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_half_a_picture_is_refused(kind: str, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut"
    drawing().save(path, kind)
    os.truncate(path, int(path.stat().st_size * share))
    assert "damaged" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["PSD", "ICO", "TGA", "EPS", "PCX", "SGI", "JPEG2000"])
def test_decoders_that_nobody_asked_for_are_out_of_reach(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(b"8BPS\0\1" + bytes(20)) if kind == "PSD" else drawing().save(path, kind)
    assert "convert it to JPEG or PNG" in refusal(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.png") == (
        f"{tmp_path}/no.png: cannot be read (No such file or directory); give the path of a picture"
    )
    assert refusal(str(tmp_path)) == f"{tmp_path}: is a folder; give the path of a picture"
    assert "cannot be read" in refusal(tmp_path / "no.png" / "below.png")
    assert "cannot be read" in refusal("x" * 5000)
    assert "null" in refusal("a\0b.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / "loop.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    drawing().save(tmp_path / "mine.png")
    (tmp_path / "mine.png").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "mine.png")


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    monkeypatch.chdir(tmp_path)  # the address of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    lines: list[str] = []
    for path in (tmp_path / "fifo.png", tmp_path / "socket.png", Path("/dev/zero")):
        reader = threading.Thread(target=lambda path=path: lines.append(refusal(path)), daemon=True)
        reader.start()
        reader.join(timeout=5)
        assert not reader.is_alive(), f"hangs in {path}"
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
def test_any_name_can_be_read_and_fits_in_a_line(name: bytes, shown: str, tmp_path: Path) -> None:
    if sys.platform == "darwin" and b"\xe9" in name:
        pytest.skip("names are UTF-8 there")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert (
        refusal(path) == f"{tmp_path}/{shown}: cannot be read (No such file or directory); give the path of a picture"
    )
    with path.open("wb") as file:
        drawing().save(file, "PNG")
    assert apart(load(path), load(drawing())) == 0
    assert apart(load(str(path)), load(drawing())) == 0


def test_arrays_that_are_no_pictures_say_why() -> None:
    whole = np.zeros((8, 8))
    for bad, word in {
        "shape (8,)": whole[0], "shape (8, 8, 1)": whole[..., None], "shape (0, 8)": whole[:0],
        "shape (1, 2, 8, 8)": np.zeros((1, 2, 8, 8)), "int64": whole.astype(np.int64), "complex": whole + 1j,
        "dtype object": whole.astype(object), "dtype <U": whole.astype(str),
        "nan": whole + np.nan, "inf": whole + np.inf, "to 2;": whole + 2, "from -1": whole - 1,
    }.items():  # fmt: skip
        line = refusal(word)
        assert line.startswith("the ndarray: has ")
        assert bad in line
    hole = whole.copy()
    hole[3, 3] = np.nan
    assert "nan" in refusal(hole)
    for thing in (None, [[0, 1]], b"x.png", 7):
        assert refusal(thing) == f"the {type(thing).__name__}: is no picture; give a path, a PIL image or an array"


def test_numbers_in_a_file_that_are_not_finite(tmp_path: Path) -> None:
    for number in (np.nan, np.inf):
        Image.fromarray(np.full((9, 9), number, np.float32)).save(tmp_path / "f.tif")
        assert "not finite" in refusal(tmp_path / "f.tif")


def test_an_image_that_is_closed_or_broken_is_refused_by_its_kind(tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", 120)
    with Image.open(tmp_path / "a.png") as image:
        assert refusal(image).startswith("the PngImageFile: is damaged (")


def test_reading_leaves_pillow_and_the_warnings_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    refusal(tmp_path / "a.png")
    load(drawing())
    assert (warnings.filters, Image.MAX_IMAGE_PIXELS) == before
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# ---------------------------------------------------------------------------------------------------------- in bounds


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 2), (SIDE, 3), (SIDE + 1, SIDE - 1), (100000, 2)])
def test_any_shape_is_shrunk_to_the_longest_side(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (0, 51, 255)).save(tmp_path / "a.png")
    picture = load(tmp_path / "a.png")
    assert picture.dtype == np.float32
    width, height = (max(1, round(side * min(1, SIDE / max(size)))) for side in size)
    assert picture.shape == (height, width, 3)
    assert apart(picture, np.broadcast_to(np.float32([0, 0.2, 1]), picture.shape)) < ROUNDING


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_large_picture_looks_like_itself(kind: str, tmp_path: Path) -> None:
    drawing().resize((1920, 1280)).save(tmp_path / "a", kind)
    assert np.abs(load(tmp_path / "a") - load(drawing().resize((SIDE, round(SIDE * 2 / 3))))).mean() < 0.01


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F"])
def test_an_image_of_the_caller_stays_as_it_was(mode: str, tmp_path: Path) -> None:
    image = drawing("L").convert(mode).resize((1500, 1000))
    before = image.copy()
    load(image)
    assert image == before
    drawing().resize((3000, 2000)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as photo:
        load(photo)
        assert photo.size == (3000, 2000)


@dataclass
class Child:
    megabytes: float
    seconds: float
    answers: list[str]


# Not ru_maxrss: a child that has not yet become another program counts its parent's memory as its own.
CHILD = """
import json, re, sys, time
from pathlib import Path
from digitnet.inference.photos.image_io import load

def answer(path):
    try:
        return str(load(path).shape)
    except ValueError as error:
        return str(error)

start = time.process_time()
answers = [answer(path) for path in sys.argv[1:]]
seconds = time.process_time() - start
assert "torch" not in sys.modules, "too slow to start in a worker process"
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6
print(json.dumps([peak, seconds, answers]))
"""


def in_a_child(*paths: Path) -> Child:
    command = [sys.executable, "-W", "error", "-c", CHILD, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return Child(*json.loads(done.stdout))


@linux
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """30000 × 30000 pixels in 110 kB."""
    rows = zlib.compress(bytes(3751 * 30000))
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, rows))
    child = in_a_child(tmp_path / "bomb.png")
    assert child.answers == [f"{tmp_path}/bomb.png: has too many pixels; scale it down to 50 megapixels"]
    assert child.megabytes < 100


@linux
def test_a_photo_of_12_megapixels_takes_little(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=92)
    child = in_a_child(tmp_path / "a.jpg")
    assert child.answers == [f"({SIDE * 3 // 4}, {SIDE}, 3)"]
    assert child.megabytes < 100
    assert child.seconds < 0.3


@linux
def test_a_photo_of_50_megapixels_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8192, 6144)).save(tmp_path / "a.jpg")
    child = in_a_child(tmp_path / "a.jpg")
    assert child.answers == [f"({SIDE * 3 // 4}, {SIDE}, 3)"]
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
def test_the_largest_picture_stays_below_1_gb(kind: str, tmp_path: Path) -> None:
    mode, size, options = HEAVIEST[kind]
    Image.new(mode, size, 77).save(tmp_path / "a", kind, **options)
    child = in_a_child(tmp_path / "a")
    assert child.answers == [f"({SIDE * size[1] // size[0]}, {SIDE}, 3)"]
    assert child.megabytes < 1000


def test_more_pixels_are_refused_whatever_they_come_in(tmp_path: Path) -> None:
    line = "has too many pixels; scale it down to 50 megapixels"
    for side in (8200, 10_000):  # Pillow would say nothing of the first, and warn of the second
        (tmp_path / "a.png").write_bytes(png(side, side, 8, 2, b""))
        assert refusal(tmp_path / "a.png").endswith(line)
    assert refusal(Image.new("1", (8200, 8200))) == f"the Image: {line}"
    assert refusal(np.broadcast_to(np.uint8(0), (10**6, 10**6, 3))) == f"the ndarray: {line}"


@pytest.mark.fault
def test_webp_is_allowed_fewer_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (8200, 6500)).save(tmp_path / "a.webp", lossless=True, method=0, quality=0)
    assert "too many pixels" in refusal(tmp_path / "a.webp")


def test_a_file_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.bmp").open("wb") as file:
        file.truncate(5 * 2**30)
    assert refusal(tmp_path / "a.bmp").endswith("a.bmp: is larger than 256 MB; scale it down")


@linux
def test_tags_that_claim_the_same_bytes_are_not_believed(tmp_path: Path) -> None:
    """Pillow alone takes 600 MB for the JPEG, of 130 kB, and 5 GB each for the others, of 1 MB."""
    tags = greedy_tags(130_000)
    segments = [b"Exif\0\0" + tags[at : at + 65_000] for at in (0, 65_000)]
    marked = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment for segment in segments)
    drawing().save(tmp_path / "a.jpg")
    plain = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(plain[:2] + marked + plain[20:])  # in place of the JFIF segment
    drawing().save(tmp_path / "a.png", exif=greedy_tags(10**6))
    drawing().save(tmp_path / "a.webp", exif=greedy_tags(10**6))
    (tmp_path / "a.tif").write_bytes(greedy_tags(10**6))
    child = in_a_child(*(tmp_path / name for name in ("a.jpg", "a.png", "a.webp", "a.tif")))
    assert child.answers[:3] == ["(64, 96, 3)"] * 3
    assert "a.tif: is damaged" in child.answers[3]
    assert child.megabytes < 100


def tiff(content: bytes, **tags: int) -> bytes:
    """Gray, packed with zlib, with one entry of 4 bytes for each tag."""
    usual = {"_256": 64, "_257": 64, "_258": 8, "_259": 8, "_262": 1, "_277": 1}
    values = sorted((int(tag[1:]), value) for tag, value in (usual | tags).items())
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in values)
    return (b"II*\0" + struct.pack("<LH", 8, len(values)) + entries + bytes(4)).ljust(200, b"\0") + content


@linux
def test_a_tile_larger_than_its_picture_is_refused(tmp_path: Path) -> None:
    """Pillow alone takes as much as the tile: 900 MB, for 64 × 64 pixels."""
    tile = zlib.compress(bytes(10**6), 9)
    (tmp_path / "a.tif").write_bytes(tiff(tile, _322=30000, _323=30000, _324=200, _325=len(tile)))
    child = in_a_child(tmp_path / "a.tif")
    assert "too many pixels" in child.answers[0]
    assert child.megabytes < 100


@linux
def test_stderr_is_left_to_the_one_line(tmp_path: Path) -> None:
    """Pillow logs that the first has too many channels, and libtiff writes that the second cannot be unpacked."""
    (tmp_path / "a.tif").write_bytes(tiff(b"", _277=1000))
    (tmp_path / "b.tif").write_bytes(tiff(b"no zlib", _273=200, _278=64, _279=7))
    child = in_a_child(tmp_path / "a.tif", tmp_path / "b.tif")  # which sees to it that there is nothing else
    assert all("is damaged" in answer for answer in child.answers)


# ------------------------------------------------------------------------------------------------------------- depths


def deep_png(gray: np.ndarray[Any, Any], kind: int) -> bytes:
    """Of 16 bits a channel: kind 0 is gray, 2 RGB, 4 gray with alpha, 6 RGBA."""
    alpha = np.full_like(gray, 255)
    channels = {0: [gray], 2: [gray] * 3, 4: [gray, alpha], 6: [gray] * 3 + [alpha]}[kind]
    rows = (np.stack(channels, axis=2).astype(">u2") * 257).astype(">u2")
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(gray.shape[1], gray.shape[0], 16, kind, zlib.compress(content))


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_a_png_of_16_bits_is_its_twin_of_8(kind: int, tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(deep_png(shades(), kind))
    assert apart(load(tmp_path / "deep.png"), load(shades())) < ROUNDING


DEEP: dict[str, Callable[[Path, np.ndarray[Any, Any]], None]] = {
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


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_file_is_its_twin_of_8_bits(name: str, tmp_path: Path) -> None:
    DEEP[name](tmp_path / name, shades())
    assert apart(load(tmp_path / name), load(shades())) < ROUNDING


@pytest.mark.parametrize("colour", ["gray", "rgb", "rgba"])
def test_arrays_of_all_depths_are_twins(colour: str) -> None:
    gray = shades()
    whole = {"gray": gray, "rgb": np.stack([gray, 255 - gray, gray // 2], axis=2)}
    whole["rgba"] = np.dstack([whole["rgb"], np.full_like(gray, 255)])
    array = whole[colour]
    expected = np.asarray(Image.fromarray(array).convert("RGB")) / np.float32(255)
    assert apart(load(array), expected) < 1e-6
    deep = array * np.uint16(257)
    scaled = array / np.float64(255)
    for twin in (deep, deep.astype(">u2"), scaled, scaled.astype(np.float32), scaled.astype(np.float16)):
        assert apart(load(twin), expected) < ROUNDING
    assert apart(load(array[::-1, ::2]), np.ascontiguousarray(expected[::-1, ::2])) < 1e-6
    assert apart(load(array > 127), load((array > 127) * np.uint8(255))) == 0


def test_a_faint_picture_of_16_bits_keeps_its_shades() -> None:
    """8 bits would leave 16 of the 4096 grays of a 12-bit camera."""
    assert len(np.unique(load(np.arange(4096, dtype=np.uint16).reshape(64, 64)))) == 4096


def test_the_noise_of_a_black_picture_of_16_bits_stays_dark() -> None:
    """Only numbers of 32 bits may be taken for bytes."""
    assert load(shades().astype(np.uint16)).max() < ROUNDING


# ------------------------------------------------------------------------------------------------------------ colours

COLOURS: dict[str, tuple[str, str, dict[str, Any], float]] = {  # mode, format, how to save, how far off it may be
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
def test_colours_are_right(name: str, tmp_path: Path) -> None:
    mode, kind, options, off = COLOURS[name]
    image = drawing().quantize(16) if mode == "P" else drawing(mode)
    image.save(tmp_path / "a", kind, **options)
    assert apart(load(tmp_path / "a"), np.asarray(drawing()) / np.float32(255)) <= off / 255 + 1e-6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_black_and_white_and_gray(mode: str, kind: str, tmp_path: Path) -> None:
    drawing(mode).save(tmp_path / "a", kind)
    assert apart(load(tmp_path / "a"), np.asarray(drawing(mode).convert("RGB")) / np.float32(255)) < 1e-6


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_of_several_pictures_the_first_is_read(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    others = [drawing().transpose(Image.Transpose.ROTATE_180), Image.new("RGB", (96, 64), "red")]
    drawing().save(tmp_path / "all", kind, save_all=True, append_images=others, **options)
    drawing().save(tmp_path / "one", "JPEG" if kind == "MPO" else kind, **options)
    with Image.open(tmp_path / "all") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
    assert np.abs(load(tmp_path / "all") - load(tmp_path / "one")).mean() < 0.01


# -------------------------------------------------------------------------------------------------------------- paper


def strokes(colour: tuple[int, int, int], size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A soft-edged 7 of one colour on nothing."""
    mask = Image.new("L", (960, 640))
    ImageDraw.Draw(mask).line([(300, 100), (600, 100), (400, 550)], fill=255, width=60)
    image = Image.new("RGBA", size, (*colour, 0))
    image.putalpha(mask.resize(size))
    return image


def on(paper: str, image: Image.Image) -> Picture:
    return load(Image.alpha_composite(Image.new("RGBA", image.size, paper), image.convert("RGBA")).convert("RGB"))


@pytest.mark.parametrize(
    ("colour", "paper"),
    [((0, 0, 0), "white"), ((20, 40, 210), "white"), ((200, 0, 0), "white"),
     ((255, 255, 255), "black"), ((255, 240, 60), "black"), ((150, 230, 255), "black")],
)  # fmt: skip
def test_strokes_on_nothing_get_paper_that_shows_them(colour: tuple[int, int, int], paper: str, tmp_path: Path) -> None:
    image = strokes(colour)
    assert apart(load(image), on(paper, image)) < ROUNDING
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}}.items():
        image.save(tmp_path / "a", kind, **options)
        assert apart(load(tmp_path / "a"), on(paper, image)) < ROUNDING


def test_transparency_in_every_form_is_the_same(tmp_path: Path) -> None:
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
        assert apart(load(tmp_path / name), expected) < ROUNDING, name
    assert apart(load(palette.convert("PA")), load(Image.new("L", hard.size))) == 0  # opaque after all


def test_what_hides_below_transparency_does_not_shine_through() -> None:
    """Shrinking mixes neighbours: those that nobody sees must not count."""
    noise = np.random.default_rng(1).integers(0, 256, (1280, 1920, 3), dtype=np.uint8)
    image = strokes((0, 0, 0), (1920, 1280))
    hidden = np.where(np.asarray(image)[..., 3:] > 0, 0, noise)
    image = Image.merge("RGBA", (*Image.fromarray(hidden.astype(np.uint8)).split(), image.getchannel("A")))
    assert apart(load(image), on("white", image)) < 2 * ROUNDING


@pytest.mark.parametrize(("page", "ink"), [("white", "black"), ("black", "white")])
def test_a_page_with_clear_corners_is_not_framed(page: str, ink: str) -> None:
    """A screenshot of a window: were its corners given the other colour, they would be ink."""
    image = Image.new("RGB", (96, 64), page)
    ImageDraw.Draw(image).line([(30, 10), (60, 10), (40, 55)], fill=ink, width=6)
    expected = load(image)
    corners = Image.new("L", image.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle([2, 2, 93, 61], radius=9, fill=255)
    image.putalpha(corners)
    assert apart(load(image), expected) < ROUNDING


def test_nothing_at_all_is_blank_paper() -> None:
    assert load(Image.new("RGBA", (9, 9), (0, 0, 0, 0))).min() == 1


def test_an_opaque_alpha_changes_nothing() -> None:
    assert apart(load(drawing("RGBA")), load(drawing())) < 1e-6


# ------------------------------------------------------------------------------------------------------------ upright

TURNS = {  # how a camera held in this way stores what is upright
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
CAMERAS: dict[str, dict[str, Any]] = {
    "PNG": {}, "TIFF": {}, "TIFF lzw": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}  # fmt: skip


def turned(orientation: int) -> tuple[Image.Image, Image.Exif]:
    turn, exif = TURNS[orientation], Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return drawing() if turn is None else drawing().transpose(turn), exif


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("orientation", TURNS)
def test_a_photo_is_upright_however_the_camera_was_held(orientation: int, camera: str, tmp_path: Path) -> None:
    image, exif = turned(orientation)
    image.save(tmp_path / "a", camera.split()[0], exif=exif, **CAMERAS[camera])
    lossy = camera in ("JPEG", "AVIF")
    assert apart(load(tmp_path / "a"), load(drawing())) < (8 / 255 if lossy else 1e-6)
    with Image.open(tmp_path / "a") as opened:
        assert apart(load(opened), load(tmp_path / "a")) == 0


def test_a_large_photo_is_upright_too(tmp_path: Path) -> None:
    image, exif = turned(6)
    image.resize((2000, 3000)).save(tmp_path / "a.jpg", exif=exif)
    assert np.abs(load(tmp_path / "a.jpg") - load(drawing().resize((SIDE, round(SIDE * 2 / 3))))).mean() < 0.01


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    drawing().save(tmp_path / "a.png", exif=exif)
    assert apart(load(tmp_path / "a.png"), load(drawing())) == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("seed", range(10))
def test_a_broken_exif_does_not_break_the_picture(kind: str, seed: int, tmp_path: Path) -> None:
    draw, exif = np.random.default_rng(seed), turned(3)[1].tobytes()
    broken = exif[: draw.integers(6, len(exif))] if seed % 2 else exif[:6] + draw.bytes(len(exif) - 6)
    drawing().save(tmp_path / "a", kind, exif=broken)
    assert load(tmp_path / "a").shape == (64, 96, 3)


def test_a_photo_is_upright_though_the_rest_of_its_exif_is_broken(tmp_path: Path) -> None:
    """Pillow's own way fails on a name that is a number, as it writes the EXIF anew."""
    image, _ = turned(6)
    values = {271: (11, 1, 0), 274: (3, 1, 6), 0x8769: (4, 1, 2**31), 37500: (5, 10**6, 2**31)}
    tags = b"".join(struct.pack("<HHLL", tag, *value) for tag, value in values.items())
    image.save(tmp_path / "a.png", exif=b"II*\0" + struct.pack("<LH", 8, len(values)) + tags + bytes(4))
    assert apart(load(tmp_path / "a.png"), load(drawing())) == 0
