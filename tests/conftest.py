"""Shared fixtures and helpers: a trained run, and three ways to run a command.

A command runs in this process (`run`), in a forked process (`fork_server`) or in a new process (`spawn`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import lightning as L
import pytest

if TYPE_CHECKING:
    from tests.faults.child import ForkServer

FAST = ("model=mlp", "debug=fast")  # overrides of a run that takes about a second
SLIM = ("model=cnn", "model.channels=[4,8,8,8]")  # overrides of a CNN with few channels


@dataclass
class CompletedRun:
    """A command that has ended."""

    status: int
    """Exit status. -n if signal n killed the process."""
    out: str
    """Text on the standard output."""
    err: str
    """Text on the standard error."""
    seconds: float = 0
    """Duration of the command, where it was measured."""


Run = Callable[..., CompletedRun]


def call(module: ModuleType, *arguments: str, folder: Path, patch: pytest.MonkeyPatch, **environment: str) -> int:
    """Call the main() of a command with the given arguments in a folder, and return its exit status."""
    patch.chdir(folder)
    for name, value in {"HYDRA_FULL_ERROR": "", **environment}.items():
        patch.setenv(name, value)
    patch.setattr(sys, "argv", [str(module.__file__), *arguments])
    try:
        module.main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process, in the empty folder of the test.

    Training runs draw no plot of the worst errors, because that would take longer than all the rest.
    """
    from digitnet.training import experiment

    monkeypatch.setattr(experiment, "visualize_run", lambda *arguments: None)

    def run(module: ModuleType, *arguments: str, **environment: str) -> CompletedRun:
        capsys.readouterr()
        status = call(module, *arguments, folder=tmp_path, patch=monkeypatch, **environment)
        return CompletedRun(status, *capsys.readouterr())

    return run


@pytest.fixture
def forgets_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what the imports of a test's own modules leave behind: modules, search path and registered networks."""
    from digitnet.models import MODELS, registry

    before = dict(MODELS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    MODELS.clear()
    MODELS.update(before)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    registry._import_entry_points.cache_clear()


@pytest.fixture(scope="session")
def shared_trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a complete training run, with the plot of the worst errors; tests must not change it."""
    from digitnet import train

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        assert call(train, *FAST, "hydra.run.dir=out", folder=folder, patch=patch) == 0
    return folder / "out"


@pytest.fixture
def trained_run(shared_trained_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the training run in the folder of the test."""
    return Path(shutil.copytree(shared_trained_run, tmp_path / "out"))


@pytest.fixture(scope="session")
def fork_server() -> "ForkServer":
    """Return a server that forks processes for commands, in about a second each; see tests/faults/child.py."""
    from tests.faults.child import ForkServer

    return ForkServer()


def spawn(module: str, *arguments: str, folder: Path, limit: int = 300, **environment: str) -> CompletedRun:
    """Run `python -m module` in a new process, as a user would."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=limit, check=False
    )
    return CompletedRun(process.returncode, process.stdout, process.stderr)


def quiet_trainer(folder: Path, **arguments: object) -> L.Trainer:
    """Return a Trainer that prints nothing and writes no files."""
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **(silent | arguments))
