"""A data set of your own: a folder of images by class, or a file of arrays."""

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from digitnet.data.augmentation import Augmentation
from digitnet.data.datamodule import ImageDataModule
from digitnet.data.published import with_root
from digitnet.data.splits import split_indices
from digitnet.errors import ArgumentError, UsageError, check_argument

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of the image files, in lower case. Other files are ignored."""

_MAX_PIXELS = 2**26
_MAX_LABEL = 9999  # the record of a data set in a checkpoint names at most 10,000 classes
_SIDE = 28


class _OwnDataModule(ImageDataModule):
    """Base class of data sets that may have no test split of their own: it is then a part of the images."""

    _root_requirement = ""

    def __init__(
        self,
        root: str | Path | None = None,
        test_size: int | float = 0.1,
        batch_size: int = 128,
        val_size: int | float = 0.1,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(batch_size, val_size, train_size, split_seed, seed, augmentation)
        is_size = 0 < test_size < 1 or (test_size >= 1 and test_size == int(test_size))
        check_argument(is_size, "test_size", test_size, "a fraction below 1, or a whole number, above 0")
        self.root = None if root is None else Path(root).expanduser()
        self.test_size = test_size

    def describe(self) -> dict[str, Any]:
        """Return the record of the data set in a checkpoint, with its path and the size of its test split."""
        record = super().describe()
        record["arguments"]["test_size"] = self.test_size
        return with_root(record, self.root)

    def _existing_root(self) -> Path:
        if self.root is None or not self.root.exists():
            raise ArgumentError("root", "null" if self.root is None else self.root, self._root_requirement)
        return self.root

    def _carve_test(self, images: Tensor, labels: Tensor, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the part of a data set without test images that is for training, or for the test."""
        total = len(labels)
        size = round(self.test_size * total) if self.test_size < 1 else int(self.test_size)
        check_argument(1 <= size < total, "test_size", self.test_size, f"a part of the {total} images")
        parts = split_indices(labels, size, total - size, self.split_seed)
        chosen = parts["val" if split == "test" else "train"]
        return images[chosen], labels[chosen]


class FolderDataModule(_OwnDataModule):
    """A folder of images by class: `root/train/CLASS/*.png` and `root/test/CLASS/*.png`, or `root/CLASS/*.png`.

    Without `root/test`, a stratified part of the images is held out for the test. The images are converted to grey and
    resized to 28x28 pixels, whatever their proportions. Transparent pixels become background.

    Args:
        root: The folder. The names of its sub-folders are the classes, in alphabetical order; at least two.
        invert: Whether the images have dark ink on a bright background. The networks expect bright ink on dark.
        test_size: Number of images that are held out for the test if there is no `root/test`, or a fraction of them.
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the training images that are held out for validation, or a fraction of them.
        train_size: Number of training images; None uses all that are left.
        split_seed: Seed of the choice of the validation and test images, from 0 to 2**32 - 1.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    name = "folder"
    _root_requirement = (
        "a folder of images by class: DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, or DIR/CLASS/*.png"
    )

    def __init__(
        self,
        root: str | Path | None = None,
        invert: bool = False,
        test_size: int | float = 0.1,
        batch_size: int = 128,
        val_size: int | float = 0.1,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(root, test_size, batch_size, val_size, train_size, split_seed, seed, augmentation)
        self.invert = invert

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the sub-folders."""
        root = self._existing_root()
        return _class_names(root / "train" if (root / "train").is_dir() else root)

    def describe(self) -> dict[str, Any]:
        """Return the record of the data set in a checkpoint."""
        record = super().describe()
        record["arguments"]["invert"] = self.invert
        return record

    def load(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Read the images of a split (see the base class).

        Raises:
            UsageError: If an image cannot be read, or a class has none.
        """
        root = self._existing_root()
        if not (root / "train").is_dir():
            return self._carve_test(*_read_folder(root, self.classes, self.invert), split)
        if (root / "val").is_dir():
            raise UsageError(f"{root / 'val'}: digitnet holds out validation images itself; move them into train")
        if (root / "test").is_dir():
            return _read_folder(root / split, self.classes, self.invert)
        return self._carve_test(*_read_folder(root / "train", self.classes, self.invert), split)


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the sub-folders."""
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise UsageError(f"{folder}: needs a sub-folder of images for each of at least two classes; there is {found}")
    return names


@lru_cache(maxsize=4)  # a sweep reads the files once and not once a job; the tensors are never modified
def _read_folder(folder: Path, classes: tuple[str, ...], invert: bool) -> tuple[Tensor, Tensor]:
    """Return all images `[N, 28, 28]` of a folder of classes, and their labels `[N]`."""
    if unknown := set(_class_names(folder)) - set(classes):
        raise UsageError(f"{folder / min(unknown)}: this class is not in train")
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(f"{folder / name}: no images there ({', '.join(SUFFIXES)})")
        images += [_read_image(path) for path in files]
        labels += [label] * len(files)
    stacked = torch.from_numpy(np.stack(images))
    return (255 - stacked if invert else stacked), torch.tensor(labels)


def _read_image(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return an image file as grey pixels `[28, 28]`."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"more than {_MAX_PIXELS:,} pixels")
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                with_alpha = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", with_alpha.size, (0, 0, 0, 255)), with_alpha)
            grey = upright.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
            return np.asarray(grey)
    except Exception as error:  # Pillow raises as many types as there are ways to break a file
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not an image that can be read ({reason}); replace or remove it") from error


class ArrayDataModule(_OwnDataModule):
    """Arrays in a `.npz` file: `train_images` `[N, 28, 28]`, uint8, `train_labels` `[N]`, and the same for `test`.

    Without `test_images`, a stratified part of the images is held out for the test. An array `classes` of strings
    names the classes; otherwise they are called 0, 1, 2 and so on up to the highest label.

    Args:
        root: The file. Arrays of Python objects are refused.
        test_size: Number of images that are held out for the test if the file has none, or a fraction of them.
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the training images that are held out for validation, or a fraction of them.
        train_size: Number of training images; None uses all that are left.
        split_seed: Seed of the choice of the validation and test images, from 0 to 2**32 - 1.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    name = "arrays"
    _root_requirement = "a .npz file with train_images [N, 28, 28] and train_labels [N]"

    @property
    def classes(self) -> tuple[str, ...]:
        """The array `classes`, or the numbers up to the highest label."""
        arrays = _read_npz(self._existing_root())
        if "classes" in arrays:
            return tuple(map(str, arrays["classes"].tolist()))
        highest = max(int(arrays[name].max(initial=0)) for name in arrays if name.endswith("_labels"))
        return tuple(map(str, range(highest + 1)))

    def load(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the arrays of a split (see the base class)."""
        arrays = _read_npz(self._existing_root())
        name = split if "test_images" in arrays else "train"
        images, labels = (torch.from_numpy(arrays[f"{name}_{part}"]) for part in ("images", "labels"))
        return (images, labels) if "test_images" in arrays else self._carve_test(images, labels, split)


@lru_cache(maxsize=2)
def _read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of a file, checked for their names and types."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.ascontiguousarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not a .npz file that can be read ({' '.join(str(error).split())})") from error
    wanted = ["train_images", "train_labels"] + ["test_images", "test_labels"] * ("test_images" in arrays)
    for name in wanted:
        if name not in arrays:
            raise UsageError(f"{path}: it has no array {name}, only {', '.join(arrays) or 'none'}")
        if name.endswith("labels") and arrays[name].dtype.kind not in "iu":
            raise UsageError(f"{path}: {name} is of {arrays[name].dtype}; labels must be whole numbers from 0")
    for name in wanted[::2]:
        images, labels = arrays[name], arrays[name.replace("images", "labels")]
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (_SIDE, _SIDE):
            raise UsageError(
                f"{path}: {name} is {list(images.shape)} of {images.dtype}; it must be [N, 28, 28] of uint8"
            )
        if labels.shape != (len(images),) or not len(images):
            raise UsageError(f"{path}: {name} has {len(images)} images, and its labels are {list(labels.shape)}")
        if labels.max() > _MAX_LABEL:
            where = f"{path}: {name.replace('images', 'labels')}"
            raise UsageError(f"{where} has a label {labels.max()}; number the classes from 0 to at most {_MAX_LABEL}")
    return {
        name: array if array.dtype.kind not in "iu" or name.endswith("images") else array.astype(np.int64)
        for name, array in arrays.items()
    }
