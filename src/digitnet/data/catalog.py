"""The published data sets in the format of MNIST: their classes, sizes, files and mirrors."""

import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]

DIGITS = tuple(string.digits)
_FOUR_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class PublishedDataset:
    """A data set of grey-scale images `[N, 28, 28]` in IDX files, as torchvision downloads it."""

    title: str
    """The name under which it was published."""
    torchvision_class: str
    """The class in `torchvision.datasets`, and the name of its folder."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    sizes: dict[Split, int]
    """Number of images of each split."""
    files: dict[Split, tuple[str, str]]
    """File names of images and labels, without `.gz`."""
    download_mb: int
    """Size of the download in megabytes."""
    mirrors: tuple[str, ...]
    """Addresses to try in turn: of the folder of the files, or of the archive of EMNIST."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the uncompressed files, where it is known. Repacked `.gz` files differ, their content does not."""
    is_balanced: bool = True
    """Whether all classes have equally many images."""
    first_label: int = 0
    """The label of the first class in the files."""
    is_transposed: bool = False
    """Whether the files store rows and columns exchanged, as those of EMNIST do."""
    system_dir: Path | None = None
    """The folder in which a package of Debian installs the files."""


def _emnist(
    split: str, title: str, classes: tuple[str, ...], per_class: tuple[int, int], first_label: int = 0
) -> PublishedDataset:
    train, test = (len(classes) * size for size in per_class)
    return PublishedDataset(
        title=f"EMNIST {title}",
        torchvision_class="EMNIST",
        classes=classes,
        sizes={"train": train, "test": test},
        files={
            "train": (f"emnist-{split}-train-images-idx3-ubyte", f"emnist-{split}-train-labels-idx1-ubyte"),
            "test": (f"emnist-{split}-test-images-idx3-ubyte", f"emnist-{split}-test-labels-idx1-ubyte"),
        },
        download_mb=562,
        mirrors=(
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
        ),
        first_label=first_label,
        is_transposed=True,
    )


# The letters whose upper and lower case look alike are one class (Cohen et al., 2017).
_BALANCED_CLASSES = (*DIGITS, *string.ascii_uppercase, *"abdefghnqrt")

DATASETS: dict[str, PublishedDataset] = {
    "fashion_mnist": PublishedDataset(
        title="Fashion-MNIST",
        torchvision_class="FashionMNIST",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        sizes={"train": 60_000, "test": 10_000},
        files=_FOUR_FILES,
        download_mb=31,
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        system_dir=Path("/usr/share/datasets/fashion-mnist"),
    ),
    "kmnist": PublishedDataset(
        title="Kuzushiji-MNIST",
        torchvision_class="KMNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        sizes={"train": 60_000, "test": 10_000},
        files=_FOUR_FILES,
        download_mb=21,
        mirrors=(
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
    "qmnist": PublishedDataset(
        title="QMNIST",
        torchvision_class="QMNIST",
        classes=DIGITS,
        sizes={"train": 60_000, "test": 60_000},
        files={
            "train": ("qmnist-train-images-idx3-ubyte", "qmnist-train-labels-idx2-int"),
            "test": ("qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int"),
        },
        download_mb=21,
        mirrors=(
            "https://raw.githubusercontent.com/facebookresearch/qmnist/master/",
            "https://github.com/facebookresearch/qmnist/raw/master/",
        ),
        is_balanced=False,
    ),
    "emnist_digits": _emnist("digits", "Digits", DIGITS, (24_000, 4_000)),
    "emnist_letters": _emnist("letters", "Letters", tuple(string.ascii_uppercase), (4_800, 800), first_label=1),
    "emnist_balanced": _emnist("balanced", "Balanced", _BALANCED_CLASSES, (2_400, 400)),
}
"""The data sets by the names that `data=NAME` and `PublishedDataModule(NAME)` accept."""
