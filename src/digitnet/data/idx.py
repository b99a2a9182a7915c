"""Read and verify the IDX files of a published data set."""

import gzip
import hashlib
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digitnet.data.catalog import DATASETS, PublishedDataset, Split
from digitnet.errors import ArgumentError, UsageError

_ELEMENT_TYPES: dict[int, np.dtype[Any]] = {8: np.dtype(np.uint8), 12: np.dtype(">i4")}
"""Types of the elements by the third byte of an IDX file."""


def default_root() -> Path:
    """Return the folder of downloaded data sets: `digitnet` in `$XDG_CACHE_HOME`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "digitnet"


def find_files(name: str, root: Path | None) -> dict[str, Path]:
    """Find the four files of a published data set.

    Args:
        name: A key of `DATASETS`.
        root: A folder in torchvision's layout, `root/FashionMNIST/raw/`, or one that holds the files themselves; None
            searches `default_root()` and the folder of Debian's package.

    Returns:
        The paths by file name; each file is compressed as `.gz` or not.

    Raises:
        UsageError: If a file is missing.
    """
    dataset = DATASETS[name]
    roots = [root] if root is not None else [default_root(), *([dataset.system_dir] if dataset.system_dir else [])]
    names = [file for pair in dataset.files.values() for file in pair]
    for folder in (folder for each in roots for folder in (each / dataset.torchvision_class / "raw", each)):
        found = {file: path for file in names if (path := _with_or_without_gz(folder / file))}
        if len(found) == len(names):
            return found
        if found:
            missing = next(file for file in names if file not in found)
            raise _missing(dataset, root, f"{folder / missing}[.gz] is missing")
    raise _missing(dataset, root, f"there is no {names[0]}[.gz] in {roots[0]}")


def _with_or_without_gz(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(f"{path.name}.gz")) if each.is_file()), None)


def _missing(dataset: PublishedDataset, root: Path | None, reason: str) -> UsageError:
    """Return the error that names both ways to a data set that is not there."""
    download = f"data.download=true (download=True in Python) downloads them, {dataset.download_mb} MB"
    if root is None:
        return UsageError(
            f"{dataset.title}: its four files are not here ({reason}); data.root=DIR names a folder that has them, or "
            f"{download}"
        )
    return ArgumentError("root", root, f"a folder with the four files of {dataset.title} ({reason}); or {download}")


@cache  # a sweep reads the files once and not once a job; the tensors are never modified
def load_published(name: str, split: Split, root: Path | None = None) -> tuple[Tensor, Tensor]:
    """Load the training or the test images of a published data set.

    Args:
        name: A key of `DATASETS`.
        split: "train" or "test".
        root: The folder of the files (see `find_files`).

    Returns:
        Images `[N, 28, 28]`, upright, and labels `[N]` from 0, both uint8. They are shared between calls and must not
        be modified.

    Raises:
        UsageError: If a file is missing or damaged, or is not of this data set.
    """
    dataset, paths = DATASETS[name], find_files(name, root)
    (image_file, label_file), size = dataset.files[split], dataset.sizes[split]
    images = read_idx(paths[image_file], dataset.sha256.get(image_file))
    labels = read_idx(paths[label_file], dataset.sha256.get(label_file))
    if labels.ndim == 2:  # QMNIST stores the writer and the position in the other columns
        labels = labels[:, 0]
    classes = labels.astype(np.int64) - dataset.first_label
    _require(images.shape == (size, 28, 28), paths[image_file], f"has shape {images.shape}", dataset)
    _require(labels.shape == (size,), paths[label_file], f"has shape {labels.shape}", dataset)
    in_range = bool(classes.min() >= 0 and classes.max() < len(dataset.classes))
    _require(in_range, paths[label_file], f"has labels from {labels.min()} to {labels.max()}", dataset)
    counts = np.bincount(classes, minlength=len(dataset.classes))
    is_balanced = counts.min() == counts.max() or not dataset.is_balanced
    _require(is_balanced, paths[label_file], f"has {counts.min()} to {counts.max()} images of a class", dataset)
    upright = images.transpose(0, 2, 1) if dataset.is_transposed else images
    return torch.from_numpy(np.array(upright)), torch.from_numpy(classes.astype(np.uint8))


def _require(condition: bool, path: Path, what: str, dataset: PublishedDataset) -> None:
    if not condition:
        raise UsageError(f"{path} is not a file of {dataset.title}: it {what}; replace it")


def read_idx(path: Path, sha256: str | None = None) -> NDArray[Any]:
    """Read an IDX file.

    Args:
        path: The file, compressed if its name ends in `.gz`.
        sha256: The expected SHA-256 of the uncompressed content; None checks the structure only.

    Returns:
        The array.

    Raises:
        UsageError: If the file cannot be read, is damaged, or has another content than expected.
    """
    try:
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged: {error}; replace it") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise UsageError(f"{path} is damaged: its SHA-256 differs from that of the published file; replace it")
    dimensions = content[3] if len(content) >= 4 and content[:2] == bytes(2) and content[2] in _ELEMENT_TYPES else 0
    header = 4 + 4 * dimensions
    if dimensions not in (1, 2, 3) or len(content) < header:
        raise UsageError(f"{path} is damaged: it is not an IDX file; replace it")
    shape, kind = np.frombuffer(content[4:header], ">u4").astype(np.int64), _ELEMENT_TYPES[content[2]]
    if len(content) != header + int(np.prod(shape)) * kind.itemsize:
        raise UsageError(f"{path} is damaged: it has {len(content)} bytes, and its header describes another number")
    return np.frombuffer(content, kind, offset=header).reshape(shape)
