"""Data sets of one's own: a folder of images by class, and a file of arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digitnet.data import ArrayDataModule, FolderDataModule, mnist
from digitnet.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 20 real digits of each of three classes as PNG files, DIR/CLASS/*.png."""
    images, labels = mnist.load_mnist("train")
    for digit, name in enumerate(("naught", "one", "two")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for index, image in enumerate(images[labels == digit][:20]):
            Image.fromarray(image.numpy()).save(tmp_path / "own" / name / f"{index}.png")
    return tmp_path / "own"


def test_a_folder_of_images_is_read_with_the_names_of_its_subfolders_as_classes(folder: Path) -> None:
    data = FolderDataModule(folder, test_size=0.2, val_size=6)
    data.prepare_data()
    assert data.classes == ("naught", "one", "two")
    sizes = {name: data.split(name)[1].bincount().tolist() for name in ("train", "val", "test")}
    assert sizes == {"train": [14, 14, 14], "val": [2, 2, 2], "test": [4, 4, 4]}
    images, _ = data.split("train")
    known = {image.numpy().tobytes() for image in mnist.load_mnist("train")[0][:1000]}
    assert {image.numpy().tobytes() for image in images} <= known, "Images of 28x28 pixels are read as they are."


def test_a_test_folder_is_the_test_split(folder: Path) -> None:
    (folder.parent / "split").mkdir()
    folder.rename(folder.parent / "split" / "train")
    for name in ("naught", "one", "two"):
        test = folder.parent / "split" / "test" / name
        test.mkdir(parents=True)
        Image.new("L", (100, 60), 200).save(test / "x.jpg")
    data = FolderDataModule(folder.parent / "split", invert=True)
    images, labels = data.split("test")
    assert (images.shape, labels.tolist()) == ((3, 28, 28), [0, 1, 2])
    assert images.unique().tolist() == [55], "The images are inverted."


def test_transparent_pixels_become_background(folder: Path) -> None:
    image = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (10, 10, 18, 18))
    image.save(folder / "one" / "0.png")
    images, labels = FolderDataModule(folder).load("train")
    first = images[labels == 1][0] if len(images) else images
    assert {0, 255} <= set(torch.cat([first.unique(), torch.tensor([0, 255])]).tolist())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "one class": (lambda root: [path.rename(root.parent / path.name) for path in root.glob("[ot]*")], "at least two"),
    "an empty class": (lambda root: (root / "zero").mkdir(), "no images there"),
    "an unreadable image": (lambda root: (root / "one" / "3.png").write_bytes(b"<html>"), "3.png: not an image"),
    "a truncated image": (
        lambda root: (root / "one" / "3.png").write_bytes((root / "one" / "3.png").read_bytes()[:90]),
        "3.png: not an image",
    ),
    "a missing folder": (lambda root: root.rename(root.with_name("elsewhere")), "a folder of images by class"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_folder_that_cannot_be_used_is_reported_in_one_line(damage: str, folder: Path) -> None:
    BROKEN[damage][0](folder)
    with pytest.raises(UsageError, match=BROKEN[damage][1]) as error:
        FolderDataModule(folder).prepare_data()
    assert "\n" not in str(error.value)


def write_npz(path: Path, **changes: object) -> Path:
    rng = np.random.default_rng(1)
    arrays: dict[str, object] = {
        "train_images": rng.integers(0, 256, (90, 28, 28), dtype=np.uint8),
        "train_labels": np.arange(90) % 3,
    }
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})  # type: ignore[arg-type]
    return path


def test_arrays_without_test_images_are_divided(tmp_path: Path) -> None:
    data = ArrayDataModule(write_npz(tmp_path / "a.npz"), test_size=30)
    data.prepare_data()
    assert data.classes == ("0", "1", "2")
    assert data.split("test")[1].bincount().tolist() == [10, 10, 10]
    assert (data.val_size, data.train_size) == (6, 54)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "no array train_labels"),
        ({"train_labels": np.arange(89)}, "has 90 images"),
        ({"train_labels": np.arange(90) - 1}, "range from -1"),
        ({"train_labels": np.arange(90) / 2}, "whole numbers"),
        ({"train_images": np.zeros((90, 32, 32), np.uint8)}, r"must be \[N, 28, 28\]"),
        ({"train_images": np.zeros((90, 28, 28))}, "of float64"),
        ({"classes": np.array(["a", "b"])}, "but there are 2 classes"),
        ({"train_labels": np.arange(90) % 3 + 10**9}, "has a label 1000000002"),
        ({"train_labels": np.full(90, 2**64 - 1, np.uint64)}, "has a label 18446744073709551615"),
        ({"train_labels": np.array([object()] * 90)}, "not a .npz file that can be read"),
    ],
)
def test_arrays_that_do_not_fit_are_reported_in_one_line(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        ArrayDataModule(write_npz(tmp_path / "a.npz", **changes)).prepare_data()
    assert "\n" not in str(error.value)
