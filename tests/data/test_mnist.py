"""The MNIST files: either the published bytes are loaded, or an error is raised."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from digitnet.data import mnist
from digitnet.errors import UsageError

BUNDLED = Path(mnist.__file__).parent / "files"
NAMES = [*mnist.IMAGES.values(), *mnist.LABELS.values()]


@pytest.fixture(scope="module")
def unpacked() -> dict[str, bytes]:
    return {name: gzip.decompress((BUNDLED / f"{name}.gz").read_bytes()) for name in NAMES}


@pytest.fixture
def raw(unpacked: dict[str, bytes], tmp_path: Path) -> Path:
    """Return the folder of the decompressed files of a custom copy, whose root is two levels up."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in unpacked.items():
        (folder / name).write_bytes(content)
    return folder


def load_uncached(root: Path | None) -> None:
    mnist.load_mnist.cache_clear()
    mnist.load_mnist("train", root)
    mnist.load_mnist("test", root)


def test_the_bundled_files_are_the_published_ones() -> None:
    images, labels = mnist.load_mnist("train")
    assert images.shape == (60_000, 28, 28)
    assert images.dtype == labels.dtype == torch.uint8
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert images.float().div(255).mean().item() == pytest.approx(0.1307, abs=1e-4)
    images, labels = mnist.load_mnist("test")
    assert images.shape == (10_000, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_a_custom_copy_may_be_compressed_or_not(raw: Path) -> None:
    shutil.copy(BUNDLED / "train-labels-idx1-ubyte.gz", raw)
    (raw / "train-labels-idx1-ubyte").unlink()
    for split in ("train", "test"):
        custom, bundled = mnist.load_mnist(split, raw.parents[1]), mnist.load_mnist(split)
        assert torch.equal(custom[0], bundled[0])
        assert torch.equal(custom[1], bundled[1])


def test_a_custom_copy_may_be_the_folder_of_the_files_itself(raw: Path) -> None:
    assert torch.equal(mnist.load_mnist("test", raw)[0], mnist.load_mnist("test")[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_single_flipped_bit_is_detected(raw: Path, name: str) -> None:
    content = bytearray((raw / name).read_bytes())
    content[len(content) // 2] ^= 1
    (raw / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} is damaged"):
        load_uncached(raw.parents[1])


def test_without_verification_a_changed_byte_goes_unnoticed(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = raw / NAMES[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    monkeypatch.setattr(mnist, "verify_sha256", lambda *arguments: None)
    load_uncached(raw.parents[1])
    assert not torch.equal(mnist.load_mnist("train", raw.parents[1])[0], mnist.load_mnist("train")[0])


def test_a_damaged_bundled_file_is_reported_as_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mnist.SHA256, "t10k-labels-idx1-ubyte.gz", "0" * 64)
    with pytest.raises(UsageError, match="install digitnet again"):
        load_uncached(None)
    mnist.load_mnist.cache_clear()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"<html>404</html>"),
        lambda file: file.unlink(),
    ],
    ids=["truncated", "longer", "empty", "html", "missing"],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "gz"])
def test_an_incomplete_or_foreign_file_raises_an_error_that_names_it(
    raw: Path, damage: Callable[[Path], None], compressed: bool
) -> None:
    file = raw / "t10k-images-idx3-ubyte"
    if compressed:
        file.unlink()
        file = Path(shutil.copy(BUNDLED / f"{file.name}.gz", raw))
    damage(file)
    with pytest.raises(UsageError, match="t10k-images-idx3-ubyte"):
        load_uncached(raw.parents[1])
