"""Read the published archive of MNIST-C: a folder for each corruption, with arrays of the test images.

N. Mu and J. Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", 2019; https://zenodo.org/records/3239543
under CC BY 4.0. Nothing is downloaded.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digitnet.errors import UsageError

_FILES = ("test_images.npy", "test_labels.npy")
_REMEDY = "give the folder mnist_c of the unpacked archive (Zenodo 3239543)"


def check_mnist_c(root: Path, names: list[str]) -> None:
    """Check that the files of some corruptions are there.

    Args:
        root: The folder `mnist_c` of the unpacked archive.
        names: The corruptions.

    Raises:
        UsageError: If a file is missing.
    """
    for name in names:
        for file in _FILES:
            if not (root / name / file).is_file():
                raise UsageError(f"robustness={root}: {name}/{file} is missing; {_REMEDY}")


def load_mnist_c(root: Path, name: str, labels: Tensor) -> Tensor:
    """Load the corrupted test images of a corruption. No code from the files is run.

    Args:
        root: The folder `mnist_c` of the unpacked archive.
        name: The corruption.
        labels: Labels of the test images, `[N]`, which those of the archive must equal.

    Returns:
        Images `[N, 28, 28]`, uint8.

    Raises:
        UsageError: If a file is missing or damaged, or has other images or labels.
    """
    check_mnist_c(root, [name])
    images, given = (_load_array(root / name / file) for file in _FILES)
    n = len(labels)
    if images.shape not in ((n, 28, 28), (n, 28, 28, 1)) or images.dtype != np.uint8:
        raise UsageError(
            f"{root / name / _FILES[0]}: has {images.dtype} {list(images.shape)}, not uint8 [{n}, 28, 28, 1]; {_REMEDY}"
        )
    if given.shape != (n,) or not np.array_equal(given, labels.cpu().numpy()):
        raise UsageError(f"{root / name / _FILES[1]}: has other labels than the test images of MNIST; {_REMEDY}")
    return torch.from_numpy(np.ascontiguousarray(images.reshape(n, 28, 28)))


def _load_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive and no array")
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: not an intact array ({type(error).__name__}); {_REMEDY}") from error
    return array
