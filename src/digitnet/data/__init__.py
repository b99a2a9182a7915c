"""Data sets: verified files, splits, the deterministic loader and augmentation."""

from digitnet.data.augmentation import Augmentation
from digitnet.data.catalog import DATASETS
from digitnet.data.datamodule import ImageDataModule, MNISTDataModule
from digitnet.data.folder import ArrayDataModule, FolderDataModule
from digitnet.data.loader import DeterministicLoader
from digitnet.data.published import PublishedDataModule

__all__ = [
    "DATASETS",
    "ArrayDataModule",
    "Augmentation",
    "DeterministicLoader",
    "FolderDataModule",
    "ImageDataModule",
    "MNISTDataModule",
    "PublishedDataModule",
]
