"""Fixtures: MNIST from the package, the commands run in this process or in one of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import lightning as L
import pytest

FAST = ("model=mlp", "debug=fast")


@dataclass
class Finished:
    status: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command's main() with arguments, in an empty folder of the test."""

    def run(module: ModuleType, *arguments: str) -> Finished:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *arguments])
        capsys.readouterr()
        status = 0
        try:
            module.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Finished(status, *capsys.readouterr())

    return run


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
