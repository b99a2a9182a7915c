"""Handwritten digits with PyTorch Lightning: `from digitnet import CNN, MLP, MNISTDataModule`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitnet.checkpoints.pretrained import load as load
    from digitnet.data import Augmentation as Augmentation
    from digitnet.data import MNISTDataModule as MNISTDataModule
    from digitnet.inference.reader import read as read
    from digitnet.models import CNN as CNN
    from digitnet.models import MLP as MLP
    from digitnet.models import DigitClassifier as DigitClassifier

__version__ = "0.1.0"

EXPORTS = {
    "Augmentation": "digitnet.data",
    "CNN": "digitnet.models",
    "DigitClassifier": "digitnet.models",
    "MLP": "digitnet.models",
    "MNISTDataModule": "digitnet.data",
    "load": "digitnet.checkpoints.pretrained",
    "read": "digitnet.inference.reader",
}
__all__ = list(EXPORTS)


def __getattr__(name: str) -> Any:
    # The commands import this package to find their configs; `--help` must not wait three seconds for torch.
    if name in EXPORTS:
        return getattr(import_module(EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
