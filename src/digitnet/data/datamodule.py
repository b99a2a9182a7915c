"""MNIST for a Lightning Trainer: the official split, with validation carved from the training images."""

from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from digitnet.data import mnist
from digitnet.data.augmentation import Augmentation
from digitnet.data.batches import Batches
from digitnet.errors import UsageError

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
        rest = 60_000 - check_range("val_size", val_size, 0, 59_990)
        self.root = None if root is None else Path(root).expanduser()
        self.batch_size = check_range("batch_size", batch_size, 1, 60_000)
        self.val_size = val_size
        self.train_size = rest if train_size is None else check_range("train_size", train_size, 1, rest)
        self.split_seed = check_range("split_seed", split_seed, 0)
        self.seed = check_range("seed", seed, 0, 2**32 - 1)
        self.augmentation = augmentation
        if not val_size:  # Lightning takes an empty loader for a mistake, and the base class's method for no validation
            self.val_dataloader = super().val_dataloader  # type: ignore[method-assign]
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        """Raises UsageError if a file is missing or damaged."""
        mnist.load("train", self.root)
        mnist.load("test", self.root)

    def train_dataloader(self) -> Batches:
        return self.batches("train", self.batch_size, shuffle_seed=self.seed, augmentation=self.augmentation)

    def val_dataloader(self) -> Batches:
        return self.batches("val", EVAL_BATCH_SIZE)

    def test_dataloader(self) -> Batches:
        return self.batches("test", EVAL_BATCH_SIZE)

    def predict_dataloader(self) -> Batches:
        return self.test_dataloader()

    def batches(
        self, part: str, size: int, shuffle_seed: int | None = None, augmentation: Augmentation | None = None
    ) -> Batches:
        images, labels = self.part(part)
        if self.trainer is None:
            return Batches(images, labels, size, shuffle_seed, augmentation)
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        if len(images) // max(1, -(-len(images) // size)) < 2 * world_size and world_size > 1:
            raise UsageError(f"data.batch_size={size}: {world_size} processes need at least {2 * world_size} images")
        return Batches(images, labels, size, shuffle_seed, augmentation, rank, world_size)

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """All images and labels of train, val or test, moved to the Trainer's device once."""
        if name not in self.parts:
            images, labels = mnist.load("test" if name == "test" else "train", self.root)
            if name != "test":
                chosen = self.split(labels)[name]
                images, labels = images[chosen], labels[chosen]
            device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
            self.parts[name] = images.to(device), labels.long().to(device)
        return self.parts[name]

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


def check_range(name: str, value: int, low: int, high: int | None = None) -> int:
    if value < low or (high is not None and value > high):
        raise UsageError(f"data.{name}={value}: must be at least {low}" + (f" and at most {high}" if high else ""))
    return value
