"""MNIST as two tensors, read from verified IDX files; the package ships them, nothing is downloaded."""

import gzip
import hashlib
import zlib
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from digitnet.errors import UsageError

Part = Literal["train", "test"]

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}

# Of the IDX files themselves, for a copy of the user's own, and of the .gz files in this package, which are five times
# smaller to hash; what is inside those is then checked by gzip's own CRC.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


@cache  # a sweep reads the files once, not once a job; nobody writes into these tensors
def load(part: Part, root: Path | None = None) -> tuple[Tensor, Tensor]:
    """Images `[N, 28, 28]` and labels `[N]`, both uint8; N is 60,000 for train and 10,000 for test.

    `root` holds a copy of the user's own in torchvision's layout, `root/MNIST/raw/`, as `.gz` or unpacked.
    Raises UsageError if a file is missing or a single byte is not the published one.
    """
    images, labels = read(IMAGES[part], root), read(LABELS[part], root)
    # An IDX header is 4 bytes a dimension after the first 4; the hash has vouched for its content.
    return images[16:].view(-1, 28, 28), labels[8:]


def read(name: str, root: Path | None) -> Tensor:
    """The verified bytes of one IDX file, header included, as a uint8 tensor."""
    folder = Path(__file__).parent / "files" if root is None else root / "MNIST" / "raw"
    remedy = "install digitnet again" if root is None else "replace it, or leave data.root out"
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise UsageError(f"{folder / name}[.gz] is missing; put the four MNIST files there, or leave data.root out")
    try:
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {error}; {remedy}") from error
    check(path, content if root else packed, name if root else path.name, remedy)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def check(path: Path, content: bytes, name: str, remedy: str) -> None:
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UsageError(f"{path} is damaged: its SHA-256 is not MNIST's; {remedy}")
