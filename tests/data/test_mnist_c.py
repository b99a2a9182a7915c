"""The archive of MNIST-C is read as it was published, and nothing else is taken for it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from digitnet.data.mnist_c import check_mnist_c, load_mnist_c
from digitnet.errors import UsageError

LABELS = torch.arange(40) % 10


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The folder mnist_c with one corruption of forty images, in the published layout."""
    folder = tmp_path / "mnist_c" / "fog"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    np.save(folder / "test_images.npy", images)
    np.save(folder / "test_labels.npy", LABELS.numpy())
    return folder.parent


def test_the_images_are_those_of_the_file_without_the_channel(archive: Path) -> None:
    images = load_mnist_c(archive, "fog", LABELS)
    assert (images.shape, images.dtype) == ((40, 28, 28), torch.uint8)
    assert np.array_equal(images.numpy()[..., None], np.load(archive / "fog" / "test_images.npy"))


def test_a_missing_corruption_is_named(archive: Path) -> None:
    with pytest.raises(UsageError, match=r"stripe/test_images.npy is missing; give the folder mnist_c"):
        check_mnist_c(archive, ["fog", "stripe"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test_images.npy", np.zeros((39, 28, 28, 1), np.uint8), r"not uint8 \[40, 28, 28, 1\]"),
        ("test_images.npy", np.zeros((40, 28, 28, 1), np.float32), "has float32"),
        ("test_labels.npy", np.zeros(40, np.int64), "other labels"),
        ("test_labels.npy", np.zeros(39, np.int64), "other labels"),
        ("test_images.npy", b"\x93NUMPY\x01\x00 cut off", "not an intact array"),
        ("test_images.npy", b"", "not an intact array"),
        ("test_labels.npy", np.array([print], dtype=object), "not an intact array"),
    ],
)
def test_a_damaged_or_other_file_is_refused(file: str, content: object, message: str, archive: Path) -> None:
    path = archive / "fog" / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.asarray(content), allow_pickle=True)
    with pytest.raises(UsageError, match=message) as error:
        load_mnist_c(archive, "fog", LABELS)
    assert "\n" not in str(error.value)
