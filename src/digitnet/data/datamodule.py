"""Data modules for a Lightning Trainer: the base class of image data sets, and MNIST."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from digitnet.data import mnist
from digitnet.data.augmentation import Augmentation
from digitnet.data.catalog import DIGITS
from digitnet.data.loader import DeterministicLoader
from digitnet.data.splits import split_indices
from digitnet.errors import UsageError, check_argument

EVAL_BATCH_SIZE = 1000
"""Batch size of validation and test. Without gradients a larger batch is faster, and no metric depends on it."""

RECIPE_DATA_KEYS = ("batch_size", "val_size", "train_size", "seed", "augmentation")
"""Arguments that the configs of models and presets set. A data module of your own need not accept them."""


class ImageDataModule(L.LightningDataModule):
    """Base class of a data set of grey-scale images of 28x28 pixels that fits into memory.

    A subclass implements `classes` and `load`. It gets stratified splits, augmentation, batches that are a function of
    seed, epoch and step, and thus runs that resume exactly.

    The loaders yield images `[N, 28, 28]`, uint8 from 0 to 255, or floating point from 0 to 1 if augmented, and labels
    `[N]`, int64. Both are on the device of the Trainer. Only the training images are shuffled and augmented.

    Args:
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the training images that are held out for validation, 0 or more; a fraction of them if it is
            below 1 and not 0.
        train_size: Number of training images, at least 1; None uses all that are left.
        split_seed: Seed of the choice of the validation images, from 0 to 2**32 - 1. It is independent of `seed`, so
            that runs with different seeds are compared on the same images.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        batch_size: int = 128,
        val_size: int | float = 5000,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        check_argument(batch_size >= 1, "batch_size", batch_size, "at least 1")
        check_argument(val_size >= 0, "val_size", val_size, "0 or more")
        is_size = val_size < 1 or val_size == int(val_size)
        check_argument(is_size, "val_size", val_size, "a whole number, or a fraction below 1")
        check_argument(train_size is None or train_size >= 1, "train_size", train_size, "at least 1")
        check_argument(0 <= split_seed < 2**32, "split_seed", split_seed, "from 0 to 4294967295")
        check_argument(0 <= seed < 2**32, "seed", seed, "from 0 to 4294967295")
        # The name in checkpoints and results.
        self.name = type(self).name or f"{type(self).__module__}.{type(self).__qualname__}"
        self.batch_size = batch_size
        self.val_size = val_size
        self.train_size = train_size
        self.split_seed = split_seed
        self.seed = seed
        self.augmentation = augmentation
        self._split_cache: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    @abstractmethod
    def load(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return all images and labels for training and validation, or those for the test.

        Args:
            split: "train", which is divided into training and validation, or "test".

        Returns:
            Images `[N, 28, 28]`, uint8, bright ink on a dark background, and labels `[N]` from 0, integers.

        Raises:
            UsageError: If the data is not there or is damaged.
        """

    def describe(self) -> dict[str, Any]:
        """Return the record of the data set in a checkpoint, from which an evaluation finds it again.

        Returns:
            `name`, `classes` and `arguments`, the constructor's arguments that determine the splits. Plain data.
        """
        arguments = {name: getattr(self, name) for name in ("val_size", "train_size", "split_seed")}
        return {"name": self.name, "classes": list(self.classes), "arguments": arguments}

    def prepare_data(self) -> None:
        """Read and check the data.

        Raises:
            UsageError: If a file is missing or damaged, or a label or a size is out of range.
        """
        _, labels = self._load_checked("train")
        self._resolve_sizes(len(labels))
        self._load_checked("test")

    def train_dataloader(self) -> DeterministicLoader:
        """Return a loader of the shuffled, augmented training images."""
        return self._loader("train", self.batch_size, shuffle_seed=self.seed, augmentation=self.augmentation)

    def val_dataloader(self) -> DeterministicLoader | list[DeterministicLoader]:
        """Return a loader of the validation images, or an empty list without validation."""
        return self._loader("val", EVAL_BATCH_SIZE) if self.val_size else []

    def test_dataloader(self) -> DeterministicLoader:
        """Return a loader of the test images."""
        return self._loader("test", EVAL_BATCH_SIZE)

    def predict_dataloader(self) -> DeterministicLoader:
        """Return a loader of the test images."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch as it is."""
        return batch  # the loaders yield batches on the device

    def split(self, name: Literal["train", "val", "test"]) -> tuple[Tensor, Tensor]:
        """Return all images and labels of a split. They are moved to the device of the Trainer once.

        Args:
            name: "train", "val" or "test".

        Returns:
            Images `[N, 28, 28]`, uint8, and labels `[N]`, int64.

        Raises:
            UsageError: If a file is missing or damaged, or a label or a size is out of range.
        """
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if (name, device) not in self._split_cache:
            images, labels = self._load_checked("test" if name == "test" else "train")
            if name != "test":
                self._resolve_sizes(len(labels))
                assert isinstance(self.val_size, int)
                assert self.train_size is not None
                chosen = split_indices(labels, self.val_size, self.train_size, self.split_seed)[name]
                images, labels = images[chosen], labels[chosen]
            self._split_cache[name, device] = images.to(device), labels.long().to(device)
        return self._split_cache[name, device]

    def _resolve_sizes(self, total: int) -> None:
        """Check the sizes of the splits against the number of images, and replace a fraction by a number."""
        limit = total - max(1, total // 60)
        size = round(self.val_size * total) if 0 < self.val_size < 1 else int(self.val_size)
        check_argument(size <= limit, "val_size", self.val_size, f"from 0 to {limit}")
        rest = total - size
        in_range = self.train_size is None or self.train_size <= rest
        check_argument(in_range, "train_size", self.train_size, f"from 1 to {rest}")
        self.val_size, self.train_size = size, self.train_size or rest

    def _load_checked(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Load a split, and check its shapes, its types and the range of its labels."""
        images, labels = self.load(split)
        is_image = images.ndim == 3 and images.shape[1:] == (28, 28) and images.dtype == torch.uint8
        if not is_image or not len(images) or labels.shape != (len(images),):
            raise UsageError(
                f"{self.name}: the {split} split has images {list(images.shape)} of {images.dtype} and labels "
                f"{list(labels.shape)}; they must be [N, 28, 28] of torch.uint8 and [N]"
            )
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= len(self.classes):
            raise UsageError(
                f"{self.name}: the labels of the {split} split range from {lowest} to {highest}, but there are "
                f"{len(self.classes)} classes; they must be from 0 to {len(self.classes) - 1}"
            )
        return images, labels

    def _loader(
        self,
        name: Literal["train", "val", "test"],
        batch_size: int,
        shuffle_seed: int | None = None,
        augmentation: Augmentation | None = None,
    ) -> DeterministicLoader:
        images, labels = self.split(name)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loader = DeterministicLoader(images, labels, batch_size, shuffle_seed, augmentation, rank, world_size)
        # Batch normalization needs two images in each process.
        enough = world_size == 1 or len(images) // len(loader) >= 2 * world_size
        check_argument(enough, "batch_size", batch_size, f"at least {4 * world_size} for {world_size} processes")
        return loader


class MNISTDataModule(ImageDataModule):
    """MNIST: 60,000 images for training and validation, and the 10,000 official test images for the test only.

    Args:
        root: Folder of your own copy of the files, in torchvision's layout `root/MNIST/raw/` or the files themselves;
            None uses the bundled files.
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the 60,000 images that are held out for validation, from 0 to 59000, or a fraction of them.
        train_size: Number of training images, from 1 to `60000 - val_size`; None uses all that are left.
        split_seed: Seed of the choice of the validation images, from 0 to 2**32 - 1.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    name = "mnist"
    classes = DIGITS

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 128,
        val_size: int | float = 5000,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(batch_size, val_size, train_size, split_seed, seed, augmentation)
        self.root = None if root is None else Path(root).expanduser()
        self._resolve_sizes(60_000)

    def load(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the official training or test images (see `mnist.load_mnist`)."""
        return mnist.load_mnist(split, self.root)
