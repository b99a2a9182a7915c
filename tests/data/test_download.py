"""Downloads, from a server on loopback: all files of a data set, verified, or nothing.

The published .gz files cannot be rebuilt from those of Debian, so the MD5 sums in torchvision's class are replaced by
those of the files that the server has. Everything else is torchvision's own code.
"""

import gc
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets

from digitnet.data import DATASETS, PublishedDataModule, download
from digitnet.data.idx import find_files
from digitnet.errors import RunError, UsageError

FASHION = Path("/usr/share/datasets/fashion-mnist")
pytestmark = [
    pytest.mark.skipif(not FASHION.is_dir(), reason="needs apt-get install dataset-fashion-mnist"),
    # urllib leaves the sockets of failed requests to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FILES = {path.name: path.read_bytes() for path in FASHION.glob("*.gz")} if FASHION.is_dir() else {}
RESOURCES = [(name, hashlib.md5(content).hexdigest()) for name, content in sorted(FILES.items())]
BROKEN = "t10k-images-idx3-ubyte.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /KIND/FILE: good files, or files that are broken in one way."""

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        content, faulty = FILES[name], name == BROKEN
        if kind == "missing" and faulty:
            self.send_error(404)
            return
        if kind == "wrong" and faulty:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            if kind in ("truncated", "silent", "trickle") and faulty:
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                time.sleep({"truncated": 0, "silent": 3, "trickle": 30}[kind])
            else:
                self.wfile.write(content)
        except OSError:
            pass  # the client has gone

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def no_sockets_are_left() -> Iterator[None]:
    """Collect the sockets here, where the warning is expected, and not in a later test of another module."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the address of the server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        instance.daemon_threads, instance.block_on_close = True, False
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{instance.server_port}"
        instance.shutdown()


def use_mirrors(patch: pytest.MonkeyPatch, *mirrors: str) -> None:
    """Let Fashion-MNIST be downloaded from these addresses."""
    object.__setattr__(DATASETS["fashion_mnist"], "mirrors", mirrors)
    patch.setattr(datasets.FashionMNIST, "resources", RESOURCES)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    mirrors = DATASETS["fashion_mnist"].mirrors
    monkeypatch.setenv("no_proxy", "*")
    yield monkeypatch
    object.__setattr__(DATASETS["fashion_mnist"], "mirrors", mirrors)


def left_in(folder: Path) -> list[str]:
    """Return the names in a folder but that of the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".digitnet-download.lock")


def test_a_download_has_all_files_and_is_not_repeated(server: str, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_mirrors(patch, f"{server}/good/")
    data = PublishedDataModule("fashion_mnist", tmp_path, download=True)
    data.prepare_data()
    assert left_in(tmp_path) == ["FashionMNIST"]
    assert data.split("test")[1].bincount().tolist() == [1000] * 10
    assert all(path.suffix == "" for path in find_files("fashion_mnist", tmp_path).values()), "no archives are left"
    use_mirrors(patch, f"{server}/missing/")
    PublishedDataModule("fashion_mnist", tmp_path, download=True).prepare_data()


def test_without_download_nothing_is_requested(server: str, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_mirrors(patch, f"{server}/good/")
    with pytest.raises(UsageError, match=r"data.download=true .* 31 MB"):
        PublishedDataModule("fashion_mnist", tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["truncated", "wrong", "missing", "silent"])
def test_a_mirror_that_fails_leaves_nothing_and_the_next_one_is_tried(
    kind: str, server: str, patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patch.setattr(download, "TIMEOUT_SECONDS", 1.0)
    use_mirrors(patch, f"{server}/{kind}/")
    with pytest.raises(RunError, match="could not be downloaded, and nothing was kept") as error:
        PublishedDataModule("fashion_mnist", tmp_path, download=True).prepare_data()
    assert "\n" not in str(error.value)
    assert left_in(tmp_path) == []
    use_mirrors(patch, "http://127.0.0.1:9/", f"{server}/{kind}/", f"{server}/good/")
    PublishedDataModule("fashion_mnist", tmp_path, download=True).prepare_data()
    assert left_in(tmp_path) == ["FashionMNIST"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_download_that_is_stopped_half_way_leaves_no_data_and_can_be_repeated(
    stop: signal.Signals, server: str, patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = (
        "import sys, digitnet.train\nfrom torchvision import datasets\nfrom digitnet.data import DATASETS\n"
        f"datasets.FashionMNIST.resources = {RESOURCES}\n"
        f"object.__setattr__(DATASETS['fashion_mnist'], 'mirrors', ('{server}/trickle/',))\n"
        f"sys.argv[1:] = ['data=fashion_mnist', 'data.root={tmp_path}/data', 'data.download=true']\n"
        "digitnet.train.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"no_proxy": "*"}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(f"data/.*/FashionMNIST/raw/{BROKEN}")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(stop)
    assert process.wait(60) == (-signal.SIGKILL if stop == signal.SIGKILL else 143)
    assert not (tmp_path / "data" / "FashionMNIST").exists()
    if stop == signal.SIGTERM:
        assert left_in(tmp_path / "data") == []
    use_mirrors(patch, f"{server}/good/")
    PublishedDataModule("fashion_mnist", tmp_path / "data", download=True).prepare_data()
    assert left_in(tmp_path / "data") == ["FashionMNIST"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "no run folder was made"
