"""What the tests share: a trained run, the commands in this process, in a fork or in a process of their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import lightning as L
import pytest

if TYPE_CHECKING:
    from tests.faults.child import Forks

FAST = ("model=mlp", "debug=fast")
SLIM = ("model=cnn", "model.channels=[4,8,8,8]")


@dataclass
class Finished:
    status: int
    out: str
    err: str


Run = Callable[..., Finished]


def call(module: ModuleType, *arguments: str, folder: Path, patch: pytest.MonkeyPatch, **environment: str) -> int:
    """A command's main() with arguments, in a folder; gives its exit status."""
    patch.chdir(folder)
    for name, value in {"HYDRA_FULL_ERROR": "", **environment}.items():
        patch.setenv(name, value)
    patch.setattr(sys, "argv", [str(module.__file__), *arguments])
    try:
        module.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder of the test. A run draws no worst mistakes: that takes longer than all else."""
    from digitnet.training import experiment

    monkeypatch.setattr(experiment, "log_errors", lambda *arguments: None)

    def run(module: ModuleType, *arguments: str, **environment: str) -> Finished:
        capsys.readouterr()
        status = call(module, *arguments, folder=tmp_path, patch=monkeypatch, **environment)
        return Finished(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, worst mistakes and all."""
    from digitnet import train

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        assert call(train, *FAST, "hydra.run.dir=out", folder=folder, patch=patch) == 0
    return folder / "out"


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of it in the test's folder."""
    return Path(shutil.copytree(trained_once, tmp_path / "out"))


@pytest.fixture(scope="session")
def forks() -> "Forks":
    """Where a command in a process of its own costs a second; see tests/faults/child.py."""
    from tests.faults.child import Forks

    return Forks()


def spawn(module: str, *arguments: str, folder: Path, limit: int = 300, **environment: str) -> Finished:
    """Runs `python -m module` as a user would, in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=limit, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def quiet_trainer(folder: Path, **arguments: object) -> L.Trainer:
    """A Trainer that leaves and prints nothing."""
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **(silent | arguments))
