"""Handwritten digits with PyTorch Lightning: `from digitnet import CNN, MLP, ResNet, MNISTDataModule`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitnet.checkpoints.pretrained import load as load
    from digitnet.data import ArrayDataModule as ArrayDataModule
    from digitnet.data import Augmentation as Augmentation
    from digitnet.data import FolderDataModule as FolderDataModule
    from digitnet.data import ImageDataModule as ImageDataModule
    from digitnet.data import MNISTDataModule as MNISTDataModule
    from digitnet.data import PublishedDataModule as PublishedDataModule
    from digitnet.inference.reader import read as read
    from digitnet.models import CNN as CNN
    from digitnet.models import MLP as MLP
    from digitnet.models import DigitClassifier as DigitClassifier
    from digitnet.models import Distillation as Distillation
    from digitnet.models import ResNet as ResNet
    from digitnet.plots import plot_curves as plot_curves
    from digitnet.plots import plot_predictions as plot_predictions
    from digitnet.training.callbacks import EpochLog as EpochLog
    from digitnet.training.callbacks import RunCheckpoint as RunCheckpoint

__version__ = "0.2.0"

_EXPORTS = {
    "ArrayDataModule": "digitnet.data",
    "Augmentation": "digitnet.data",
    "CNN": "digitnet.models",
    "DigitClassifier": "digitnet.models",
    "Distillation": "digitnet.models",
    "EpochLog": "digitnet.training.callbacks",
    "FolderDataModule": "digitnet.data",
    "ImageDataModule": "digitnet.data",
    "MLP": "digitnet.models",
    "MNISTDataModule": "digitnet.data",
    "PublishedDataModule": "digitnet.data",
    "ResNet": "digitnet.models",
    "RunCheckpoint": "digitnet.training.callbacks",
    "load": "digitnet.checkpoints.pretrained",
    "plot_curves": "digitnet.plots",
    "plot_predictions": "digitnet.plots",
    "read": "digitnet.inference.reader",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Import an exported name on first access.

    The commands import this package to find their configs, and `--help` must not wait three seconds for torch.
    """
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*_EXPORTS, *(name for name in globals() if name.startswith("__"))})
