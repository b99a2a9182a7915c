"""MNIST: verified files, splits, the deterministic loader and augmentation."""

from digitnet.data.augmentation import Augmentation
from digitnet.data.datamodule import MNISTDataModule
from digitnet.data.loader import DeterministicLoader

__all__ = ["Augmentation", "DeterministicLoader", "MNISTDataModule"]
