"""Download a published data set through torchvision: all of its files, verified, or nothing."""

import http.client
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from digitnet.data.catalog import DATASETS, PublishedDataset
from digitnet.data.idx import default_root, find_files, load_published
from digitnet.errors import ArgumentError, RunError, UsageError

TIMEOUT_SECONDS = 30.0
"""How long a mirror may stay silent."""

_PARTIAL = ".digitnet-download-"
"""Prefix of the folder of an unfinished download."""

# What torchvision raises for an address that cannot be reached, an error of the server, and a damaged file.
_FAILURES = (RuntimeError, OSError, EOFError, http.client.HTTPException, zlib.error)


def ensure_downloaded(name: str, root: Path | None) -> None:
    """Download a published data set into `root/FashionMNIST/raw/`, unless its files are there.

    The files are downloaded and verified in a folder beside, which is then renamed. So a download that is interrupted
    leaves no part of the data set, and the next one removes what is left of it.

    Args:
        name: A key of `DATASETS`.
        root: The folder to download to; None stands for `default_root()`.

    Raises:
        ArgumentError: If the folder cannot be written to.
        RunError: If no mirror provides the files.
    """
    try:
        find_files(name, root)
        return
    except ArgumentError:
        folder = default_root() if root is None else root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".digitnet-download.lock"):  # another process may be downloading the same files
            for left in folder.glob(f"{_PARTIAL}*"):
                shutil.rmtree(left, ignore_errors=True)
            if not _is_complete(name, folder):
                _download(name, folder)
    except OSError as error:
        raise ArgumentError("root", folder, f"a folder that can be written to ({error.strerror or error})") from error


def _is_complete(name: str, folder: Path) -> bool:
    try:
        return bool(find_files(name, folder))
    except ArgumentError:
        return False


def _download(name: str, folder: Path) -> None:
    """Download into a temporary folder, verify, and rename."""
    dataset = DATASETS[name]
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=folder))
    try:
        _try_mirrors(name, dataset, partial)
        complete, target = partial / dataset.torchvision_class, folder / dataset.torchvision_class
        _remove_all_but_data(complete / "raw", dataset)
        if target.exists():  # it lacks files
            shutil.copytree(complete, target, dirs_exist_ok=True)
        else:
            complete.rename(target)
        load_published.cache_clear()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_all_but_data(raw: Path, dataset: PublishedDataset) -> None:
    """Remove the archives that were extracted, and the parts of EMNIST that are not offered, 1.5 GB of its 2 GB."""
    siblings = [each for each in DATASETS.values() if each.torchvision_class == dataset.torchvision_class]
    needed = {file for each in siblings for pair in each.files.values() for file in pair}
    for path in raw.iterdir():
        if path.name not in needed:
            path.unlink()


def _try_mirrors(name: str, dataset: PublishedDataset, partial: Path) -> None:
    """Download from the first mirror that provides intact files; files that are complete are kept for the next one."""
    failures = []
    for mirror in dataset.mirrors:
        try:
            with _socket_timeout(TIMEOUT_SECONDS):
                _download_with_torchvision(dataset, mirror, partial)
            for split in dataset.files:
                load_published.__wrapped__(name, split, partial)
            return
        except (*_FAILURES, UsageError) as error:
            if isinstance(error, UsageError):  # complete, but not the published files
                shutil.rmtree(partial / dataset.torchvision_class)
            reason = " ".join(str(error).split()) or type(error).__name__
            failures.append(f"{mirror}: {reason}")
    raise RunError(
        f"{dataset.title} could not be downloaded, and nothing was kept ({'; '.join(failures)}); try again later, or "
        "set data.root to a folder with its files"
    )


def _download_with_torchvision(dataset: PublishedDataset, mirror: str, partial: Path) -> None:
    """Let a class of torchvision download and extract its files; it shows a progress bar and verifies MD5 sums."""
    from torchvision import datasets

    original: Any = getattr(datasets, dataset.torchvision_class)
    attributes: dict[str, Any] = {"mirrors": [mirror], "url": mirror}
    if dataset.torchvision_class == "QMNIST":  # its resources are complete addresses
        attributes["resources"] = {
            subset: [(mirror + url.rpartition("/")[2], md5) for url, md5 in files]
            for subset, files in original.resources.items()
        }
    # torchvision names the folder after the class.
    redirected = type(original.__name__, (original,), attributes)
    if dataset.torchvision_class == "EMNIST":
        redirected(partial, split="letters", download=True)
    elif dataset.torchvision_class == "QMNIST":
        for subset in ("train", "test"):
            redirected(partial, what=subset, download=True)
    else:
        redirected(partial, download=True)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Let connections fail that stay silent; torchvision sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
