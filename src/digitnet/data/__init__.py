"""Pixels in: verified IDX files, uint8 tensors, batches, augmented batches."""

from digitnet.data.augmentation import Augmentation
from digitnet.data.batches import Batches
from digitnet.data.datamodule import MNISTDataModule

__all__ = ["Augmentation", "Batches", "MNISTDataModule"]
