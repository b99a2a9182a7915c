"""Read MNIST from verified IDX files. The files are bundled; nothing is downloaded."""

import gzip
import hashlib
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from digitnet.errors import ArgumentError, UsageError

Split = Literal["train", "test"]

_BUNDLED_DIR = Path(__file__).parent / "files"

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}

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
"""SHA-256 of the IDX files, for your own copy, and of the bundled .gz files.

The .gz files are five times smaller to hash; gzip's CRC verifies their content.
"""


@cache  # a sweep reads the files once and not once a job; the tensors are never modified
def load_mnist(split: Split, root: Path | None = None) -> tuple[Tensor, Tensor]:
    """Load the official training or test images.

    Args:
        split: "train" (60,000 images) or "test" (10,000 images).
        root: Folder of your own copy in torchvision's layout, `root/MNIST/raw/`, or one that holds the four files
            themselves, compressed as `.gz` or not; None uses the bundled files.

    Returns:
        Images `[N, 28, 28]` and labels `[N]`, both uint8. They are shared between calls and must not be modified.

    Raises:
        UsageError: If a file is missing or differs from the published one.
    """
    images, labels = read_idx(IMAGES[split], root), read_idx(LABELS[split], root)
    # An IDX header has 4 bytes, and 4 more for each dimension. Its content need not be parsed: the hash verifies it.
    return images[16:].view(-1, 28, 28), labels[8:]


@cache
def disputed_test_labels() -> dict[int, int | None]:
    """Return the test images whose label was not confirmed by a majority of five annotators.

    Returns:
        For each position in the test set, from 0, the class that a majority chose instead; None if there is none. The
        source is in the file.
    """
    content = json.loads((_BUNDLED_DIR / "disputed_test_labels.json").read_text())
    return {int(position): label for position, label in content["majority"].items()}


def read_idx(name: str, root: Path | None) -> Tensor:
    """Read and verify an IDX file.

    Args:
        name: File name without `.gz`.
        root: Folder of your own copy; None reads the bundled file.

    Returns:
        The bytes of the file, its header included, as a uint8 tensor `[N]`.

    Raises:
        UsageError: If the file is missing or differs from the published one.
    """
    remedy = "install digitnet again" if root is None else "replace it, or leave out data.root"
    folders = [_BUNDLED_DIR] if root is None else [root / "MNIST" / "raw", root]
    candidates = (folder / file for folder in folders for file in (name, f"{name}.gz"))
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise _missing(name, root)
    try:
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {error}; {remedy}") from error
    verify_sha256(path, content if root else packed, name if root else path.name, remedy)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _missing(name: str, root: Path | None) -> UsageError:
    if root is None:
        return UsageError(f"{_BUNDLED_DIR / name}.gz is missing; install digitnet again")
    return ArgumentError(
        "root", root, f"a folder with the four files of MNIST (there is no {name}[.gz] in it), or be left out"
    )


def verify_sha256(path: Path, content: bytes, name: str, remedy: str) -> None:
    """Verify the content of a file.

    Args:
        path: Path of the file, for the message.
        content: The bytes to verify.
        name: Key of the expected hash in `SHA256`.
        remedy: What to do if the content differs, for the message.

    Raises:
        UsageError: If the SHA-256 of the content differs from the expected one.
    """
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UsageError(f"{path} is damaged: its SHA-256 differs from that of the published file; {remedy}")
