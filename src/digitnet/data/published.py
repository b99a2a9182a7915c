"""The data module of the published data sets other than MNIST, which are not bundled."""

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from digitnet.data.augmentation import Augmentation
from digitnet.data.catalog import DATASETS
from digitnet.data.datamodule import ImageDataModule
from digitnet.data.download import ensure_downloaded
from digitnet.data.idx import find_files, load_published
from digitnet.errors import check_argument


class PublishedDataModule(ImageDataModule):
    """A published data set in the format of MNIST, such as Fashion-MNIST, with its official test split.

    Nothing is downloaded unless `download` is true. The images of EMNIST are turned upright, and its labels start at 0.

    Args:
        dataset: A key of `digitnet.data.DATASETS`: "fashion_mnist", "kmnist", "qmnist", "emnist_digits",
            "emnist_letters" or "emnist_balanced".
        root: Folder in torchvision's layout, such as `root/FashionMNIST/raw/`, or one that holds the four files
            themselves, compressed as `.gz` or not; None searches `~/.cache/digitnet`.
        download: Whether to download files that are missing, into `root`.
        batch_size: Number of training images in a batch, over all processes together. At least 1.
        val_size: Number of the training images that are held out for validation, or a fraction of them.
        train_size: Number of training images; None uses all that are left.
        split_seed: Seed of the choice of the validation images, from 0 to 2**32 - 1.
        seed: Seed of the order of the batches, of augmentation and of dropout, from 0 to 2**32 - 1.
        augmentation: Augmentation of the training images, if any.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        dataset: str,
        root: str | Path | None = None,
        download: bool = False,
        batch_size: int = 128,
        val_size: int | float = 5000,
        train_size: int | None = None,
        split_seed: int = 0,
        seed: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(batch_size, val_size, train_size, split_seed, seed, augmentation)
        check_argument(dataset in DATASETS, "dataset", dataset, f"one of {', '.join(DATASETS)}")
        self.name = self.dataset = dataset
        self.root = None if root is None else Path(root).expanduser()
        self.download = download
        self._resolve_sizes(DATASETS[dataset].sizes["train"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return DATASETS[self.dataset].classes

    def describe(self) -> dict[str, Any]:
        """Return the record of the data set in a checkpoint, with the folder of its files."""
        return with_root(super().describe(), self.root)

    def prepare_data(self) -> None:
        """Download what is missing, if that was asked for, then read and verify the files.

        Raises:
            UsageError: If a file is missing or damaged.
            RunError: If no mirror provides the files.
        """
        if self.download:
            ensure_downloaded(self.dataset, self.root)
        find_files(self.dataset, self.root)
        super().prepare_data()

    def load(self, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
        """Return the official training or test images (see `idx.load_published`)."""
        return load_published(self.dataset, split, self.root)


def with_root(record: dict[str, Any], root: Path | None) -> dict[str, Any]:
    """Return a record of a data set with the absolute path of its folder, if it has one."""
    if root is None:
        return record
    return record | {"arguments": record["arguments"] | {"root": str(root.resolve())}}
