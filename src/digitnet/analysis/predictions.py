"""The file predictions.npz, in which a run keeps what its best epoch predicts for the validation and test images."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitnet.checkpoints.atomic import atomic_write
from digitnet.errors import UsageError

SPLITS = ("val", "test")
"""The splits whose predictions a run keeps."""

_FORMAT = 1
_MAX_BYTES = 2**28  # of the arrays of a file, after decompression: far more than any run of digitnet writes
_MAX_WRONG_IMAGES = 5000  # kept in a file; an untrained network gets more wrong than anybody looks at


@dataclass(frozen=True)
class Predictions:
    """What one network predicts for the images of a split, in the order of the split."""

    probabilities: NDArray[np.float32]
    """Predicted probabilities `[N, C]`."""
    labels: NDArray[np.int64]
    """Actual classes `[N]`."""
    wrong: NDArray[np.int64]
    """Positions of misclassified images in the split, `[M]`, ascending; the first 5,000."""
    wrong_images: NDArray[np.uint8]
    """These images, `[M, H, W]`, so that they can be drawn without the data set."""
    images_sha256: str
    """SHA-256 of the labels and images: two networks are compared image by image only if it is the same for both."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted classes `[N]`."""
        predicted: NDArray[np.int64] = np.argmax(self.probabilities, axis=1)
        return predicted

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, `[N]`."""
        return np.equal(self.predicted, self.labels)


def make_predictions(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer[Any]], images: NDArray[np.uint8]
) -> Predictions:
    """Collect the predictions for a split.

    Args:
        probabilities: Predicted probabilities `[N, C]`.
        labels: Actual classes `[N]`.
        images: Images `[N, H, W]`.

    Returns:
        The predictions, with the misclassified images.
    """
    classes = labels.astype(np.int64)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != classes)[:_MAX_WRONG_IMAGES]
    digest = hashlib.sha256(_compact(classes).tobytes() + np.ascontiguousarray(images).tobytes()).hexdigest()
    return Predictions(probabilities, classes, wrong, images[wrong], digest)


def _compact(classes: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """Return classes in the smallest unsigned type that holds them."""
    return classes.astype(np.min_scalar_type(int(classes.max(initial=0))))


def checkpoint_sha256(path: Path) -> str:
    """Return the SHA-256 of a checkpoint file as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_predictions(path: Path, checkpoint: Path, epoch: int, splits: Mapping[str, Predictions]) -> None:
    """Atomically write the predictions of a checkpoint.

    Args:
        path: The file to replace.
        checkpoint: The checkpoint that made them; its SHA-256 is stored.
        epoch: Epoch of the checkpoint, from 1.
        splits: Predictions by the name of the split, "val" or "test".

    Raises:
        RunError: If the file cannot be written.
    """
    metadata = {
        "format": _FORMAT,
        "digitnet": version("digitnet"),
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
        "epoch": epoch,
        "images_sha256": {name: split.images_sha256 for name, split in splits.items()},
    }
    arrays: dict[str, Any] = {"metadata": np.array(json.dumps(metadata))}
    for name, split in splits.items():
        arrays[f"{name}_probabilities"], arrays[f"{name}_labels"] = split.probabilities, _compact(split.labels)
        arrays[f"{name}_wrong"], arrays[f"{name}_wrong_images"] = split.wrong.astype(np.int32), split.wrong_images
    content = io.BytesIO()
    np.savez(content, **arrays)
    atomic_write(path, content.getvalue())


def load_predictions(path: Path, checkpoint: Path) -> dict[str, Predictions]:
    """Load the predictions of a checkpoint. No code from the file is run.

    Args:
        path: A file of `save_predictions`.
        checkpoint: The checkpoint that must have made them.

    Returns:
        The predictions by the name of the split.

    Raises:
        UsageError: If the file is damaged, of another version, or was made by another checkpoint.
    """
    remedy = "delete it, and the report computes the predictions from the checkpoint"
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            metadata = json.loads(str(arrays["metadata"]))
            file_format = metadata["format"]
            if file_format == _FORMAT:
                splits = {name: _read_split(arrays, name, digest) for name, digest in metadata["images_sha256"].items()}
    except Exception as error:  # numpy, zipfile and json raise several types for damaged files
        raise UsageError(f"{path}: not intact predictions of digitnet ({type(error).__name__}); {remedy}") from error
    if file_format != _FORMAT:
        raise UsageError(f"{path}: of another version of digitnet (format {file_format}, here {_FORMAT}); {remedy}")
    if metadata["checkpoint_sha256"] != checkpoint_sha256(checkpoint):
        raise UsageError(f"{path}: made by another checkpoint than {checkpoint.name} beside it; {remedy}")
    return splits


def _read_split(arrays: Mapping[str, Any], name: str, images_sha256: str) -> Predictions:
    """Read and check the arrays of one split."""
    if name not in SPLITS:
        raise ValueError(f"unknown split {name}")
    probabilities, labels = arrays[f"{name}_probabilities"], arrays[f"{name}_labels"].astype(np.int64)
    wrong, images = arrays[f"{name}_wrong"].astype(np.int64), arrays[f"{name}_wrong_images"]
    n, classes = probabilities.shape
    sound = labels.shape == (n,) and wrong.shape == (len(images),) and images.ndim == 3 and images.dtype == np.uint8
    in_range = bool(np.all((probabilities >= 0) & (probabilities <= 1)) and np.all(labels < classes))
    if not (sound and n and in_range and np.all((wrong >= 0) & (wrong < n))):
        raise ValueError("inconsistent arrays")
    return Predictions(probabilities.astype(np.float32), labels, wrong, images, str(images_sha256))
