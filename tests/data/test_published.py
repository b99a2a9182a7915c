"""Published data sets from files on the disk: the published content is loaded, or an error is raised."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from digitnet.data import DATASETS, PublishedDataModule
from digitnet.data.idx import load_published, read_idx
from digitnet.errors import UsageError

FASHION = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="needs apt-get install dataset-fashion-mnist")


@pytest.fixture
def writable_fashion(tmp_path: Path) -> Path:
    """Return a folder of links to the files, which a test may replace."""
    for path in FASHION.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def write_idx(path: Path, array: np.ndarray) -> None:
    kind = {"u1": 8, "i4": 12}[array.dtype.str[1:]]
    header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.astype(array.dtype.newbyteorder(">")).tobytes())


@needs_fashion
def test_fashion_mnist_is_what_torchvision_reads(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FASHION.glob("t*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    for split in ("train", "test"):
        theirs = datasets.FashionMNIST(tmp_path, train=split == "train")
        for root in (tmp_path, FASHION):
            images, labels = load_published(split=split, name="fashion_mnist", root=root)
            assert torch.equal(images, theirs.data)
            assert torch.equal(labels.long(), theirs.targets)
    assert DATASETS["fashion_mnist"].classes == tuple(datasets.FashionMNIST.classes)


@needs_fashion
def test_the_splits_of_fashion_mnist_are_stratified_and_disjoint_from_the_test() -> None:
    data = PublishedDataModule("fashion_mnist", FASHION)
    assert data.split("val")[1].bincount().tolist() == [500] * 10
    assert data.split("train")[1].bincount().tolist() == [5500] * 10
    assert data.split("test")[1].bincount().tolist() == [1000] * 10


@needs_fashion
def test_a_changed_pixel_of_fashion_mnist_is_detected(writable_fashion: Path) -> None:
    name = "t10k-images-idx3-ubyte"
    content = bytearray(gzip.decompress((FASHION / f"{name}.gz").read_bytes()))
    content[5000] ^= 1
    (writable_fashion / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} is damaged: its SHA-256"):
        load_published("fashion_mnist", "test", writable_fashion)


@needs_fashion
def test_files_of_another_data_set_are_refused() -> None:
    with pytest.raises(UsageError, match="differs from that of the published file"):
        PublishedDataModule(
            "fashion_mnist", Path(__file__).parents[2] / "src" / "digitnet" / "data" / "files"
        ).prepare_data()


@needs_fashion
def test_a_missing_file_is_named(writable_fashion: Path) -> None:
    (writable_fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UsageError, match=r"t10k-labels-idx1-ubyte\[.gz\] is missing"):
        PublishedDataModule("fashion_mnist", writable_fashion).prepare_data()


def test_the_letters_of_emnist_are_turned_upright_and_their_labels_start_at_0(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, size in DATASETS["emnist_letters"].sizes.items():
        images = np.zeros((size, 28, 28), np.uint8)
        images[:, 3, 20] = 255
        write_idx(raw / f"emnist-letters-{split}-images-idx3-ubyte", images)
        write_idx(raw / f"emnist-letters-{split}-labels-idx1-ubyte", (np.arange(size) % 26 + 1).astype(np.uint8))
    images, labels = load_published("emnist_letters", "test", tmp_path)
    assert images[0].nonzero().tolist() == [[20, 3]]
    assert labels.bincount().tolist() == [800] * 26
    assert PublishedDataModule("emnist_letters", tmp_path).classes[:2] == ("A", "B")


def test_the_first_column_of_the_labels_of_qmnist_is_the_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        labels = np.zeros((60_000, 8), np.int32)
        labels[:, 0] = np.arange(60_000) % 10
        labels[:, 2] = 99
        write_idx(tmp_path / f"qmnist-{split}-labels-idx2-int", labels)
        write_idx(tmp_path / f"qmnist-{split}-images-idx3-ubyte", np.zeros((60_000, 28, 28), np.uint8))
    assert load_published("qmnist", "test", tmp_path)[1][:12].tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[:-1], "has shape"),
        (lambda labels: np.where(labels == 9, 10, labels), "has labels from 0 to 10"),
        (lambda labels: np.where(labels == 9, 8, labels), "images of a class"),
    ],
    ids=["size", "range", "balance"],
)
def test_files_of_other_sizes_or_with_labels_out_of_range_are_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for prefix, size in (("train", 60_000), ("t10k", 10_000)):
        labels = change((np.arange(size) % 10).astype(np.uint8)).astype(np.uint8)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.zeros((size, 28, 28), np.uint8))
    with pytest.raises(UsageError, match=message):
        load_published("kmnist", "test", tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes([0, 0, 8, 3]), bytes([0, 0, 8, 1, 0, 0, 0, 9, 1])])
def test_a_file_that_is_no_idx_file_is_reported_as_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UsageError, match="x is damaged"):
        read_idx(tmp_path / "x")


def test_the_classes_and_folders_are_those_of_torchvision() -> None:
    for name, dataset in DATASETS.items():
        assert hasattr(datasets, dataset.torchvision_class)
        if name.startswith("emnist_"):
            theirs = [
                each for each in datasets.EMNIST.classes_split_dict[name.removeprefix("emnist_")] if each != "N/A"
            ]
            assert [each.lower() for each in dataset.classes] == [each.lower() for each in theirs]
    assert DATASETS["kmnist"].classes == tuple(datasets.KMNIST.classes)
