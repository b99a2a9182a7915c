"""MNIST for a Lightning Trainer: the official split, with validation carved from the training images."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from digitnet.data import mnist
from digitnet.data.augmentation import Augmentation
from digitnet.data.loader import Batches
from digitnet.errors import check_argument

EVAL_BATCH_SIZE = 1000  # without gradients a bigger batch is faster; it changes no figure


class MNISTDataModule(L.LightningDataModule):
    """60,000 images to train and validate on, 10,000 to test on; the test images take part in nothing else.

    Loaders yield uint8 images `[N, 28, 28]` (float 0 to 1 once augmented) and int64 labels `[N]`, on the device that
    the Trainer uses. `batch_size` counts over all processes together. `seed` decides the order of the batches and the
    augmentation, `split_seed` which `val_size` images validate: runs with other seeds compare on the same images.
    `train_size` keeps only that many of the images left to train on.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 128,
        val_size: int = 5000,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        check_argument(batch_size >= 1, "data.batch_size", batch_size, "at least 1")
        check_argument(0 <= val_size <= 59_000, "data.val_size", val_size, "from 0 to 59000")
        rest = 60_000 - val_size
        check_argument(
            train_size is None or 1 <= train_size <= rest, "data.train_size", train_size, f"from 1 to {rest}"
        )
        check_argument(0 <= split_seed < 2**32, "data.split_seed", split_seed, "from 0 to 4294967295")
        check_argument(0 <= seed < 2**32, "seed", seed, "from 0 to 4294967295")
        self.root = None if root is None else Path(root).expanduser()
        self.batch_size = batch_size
        self.val_size = val_size
        self.train_size = train_size or rest
        self.split_seed = split_seed
        self.seed = seed
        self.augmentation = augmentation
        self.parts: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        """Raises UsageError if a file is missing or damaged."""
        mnist.load("train", self.root)
        mnist.load("test", self.root)

    def train_dataloader(self) -> Batches:
        return self.batches("train", self.batch_size, shuffle_seed=self.seed, augmentation=self.augmentation)

    def val_dataloader(self) -> Batches | list[Batches]:
        return self.batches("val", EVAL_BATCH_SIZE) if self.val_size else []

    def test_dataloader(self) -> Batches:
        return self.batches("test", EVAL_BATCH_SIZE)

    def predict_dataloader(self) -> Batches:
        return self.test_dataloader()

    def batches(
        self, part: str, size: int, shuffle_seed: int | None = None, augmentation: Augmentation | None = None
    ) -> Batches:
        images, labels = self.part(part)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = Batches(images, labels, size, shuffle_seed, augmentation, rank, world_size)
        enough = world_size == 1 or len(images) // len(batches) >= 2 * world_size  # batch norm wants two images
        check_argument(enough, "data.batch_size", size, f"at least {4 * world_size} for {world_size} processes")
        return batches

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # it is there

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """All images and labels of train, val or test, moved to the Trainer's device once."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if (name, device) not in self.parts:
            images, labels = mnist.load("test" if name == "test" else "train", self.root)
            if name != "test":
                chosen = self.split(labels)[name]
                images, labels = images[chosen], labels[chosen]
            self.parts[name, device] = images.to(device), labels.long().to(device)
        return self.parts[name, device]

    def split(self, labels: Tensor) -> dict[str, Tensor]:
        """Indices of the images to train and to validate on, disjoint, in ascending order."""
        everything = torch.arange(len(labels))
        val = everything[stratified(labels, self.val_size, self.split_seed)]
        rest = everything[~torch.isin(everything, val)]
        return {"val": val, "train": rest[stratified(labels[rest], self.train_size, self.split_seed)]}


def stratified(labels: Tensor, size: int, seed: int) -> Tensor:
    """Ascending indices of `size` random elements, each class in proportion (give or take one)."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    evenly = torch.arange(size) * len(labels) // max(size, 1)
    return by_class[evenly].sort().values
