"""MNIST for a Lightning Trainer."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from digitnet.data import mnist
from digitnet.data.augmentation import Augmentation
from digitnet.data.loader import DeterministicLoader
from digitnet.data.splits import split_indices
from digitnet.errors import check_argument

EVAL_BATCH_SIZE = 1000
"""Batch size of validation and test. Without gradients a larger batch is faster, and no metric depends on it."""


class MNISTDataModule(L.LightningDataModule):
    """MNIST: 60,000 images for training and validation, and the 10,000 official test images for the test only.

    The loaders yield images `[N, 28, 28]`, uint8 from 0 to 255, or floating point from 0 to 1 if augmented, and labels
    `[N]`, int64. Both are on the device of the Trainer. Only the training images are shuffled and augmented.

    Args:
        root: Folder of your own copy of the files, in torchvision's layout `root/MNIST/raw/`; None uses the bundled
            files.
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the 60,000 images that are held out for validation, from 0 to 59000.
        train_size: Number of training images, from 1 to `60000 - val_size`; None uses all that are left.
        split_seed: Seed of the choice of the validation images, from 0 to 2**32 - 1. It is independent of `seed`, so
            that runs with different seeds are compared on the same images.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 128,
        val_size: int = 5000,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        check_argument(batch_size >= 1, "batch_size", batch_size, "at least 1")
        check_argument(0 <= val_size <= 59_000, "val_size", val_size, "from 0 to 59000")
        rest = 60_000 - val_size
        check_argument(train_size is None or 1 <= train_size <= rest, "train_size", train_size, f"from 1 to {rest}")
        check_argument(0 <= split_seed < 2**32, "split_seed", split_seed, "from 0 to 4294967295")
        check_argument(0 <= seed < 2**32, "seed", seed, "from 0 to 4294967295")
        self.root = None if root is None else Path(root).expanduser()
        self.batch_size = batch_size
        self.val_size = val_size
        self.train_size = train_size or rest
        self.split_seed = split_seed
        self.seed = seed
        self.augmentation = augmentation
        self._split_cache: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        """Verify the files.

        Raises:
            UsageError: If a file is missing or damaged.
        """
        mnist.load_mnist("train", self.root)
        mnist.load_mnist("test", self.root)

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
            UsageError: If a file is missing or damaged.
        """
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if (name, device) not in self._split_cache:
            images, labels = mnist.load_mnist("test" if name == "test" else "train", self.root)
            if name != "test":
                chosen = split_indices(labels, self.val_size, self.train_size, self.split_seed)[name]
                images, labels = images[chosen], labels[chosen]
            self._split_cache[name, device] = images.to(device), labels.long().to(device)
        return self._split_cache[name, device]

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
