"""Pixels in: verified IDX files, uint8 tensors, batches, augmented batches."""

from digitnet.data.augmentation import Augmentation
from digitnet.data.datamodule import MNISTDataModule
from digitnet.data.loader import Batches

__all__ = ["Augmentation", "Batches", "MNISTDataModule"]
