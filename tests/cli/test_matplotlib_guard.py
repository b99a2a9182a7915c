"""The commands work on a machine without a home and without a writable temporary folder."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PHOTO = Path(__file__).parents[2] / "docs" / "images" / "photo.jpg"


def forbid_writing() -> None:
    """Let every write to a file fail, even for root, so that no folder is a usable temporary folder."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("command", [["predict", str(PHOTO)], ["evaluate", "model=mlp"]], ids=["predict", "evaluate"])
def test_a_command_works_quietly_without_a_home_and_a_temporary_folder(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = os.environ | dict.fromkeys(("HOME", "TMPDIR"), str(tmp_path / "file"))
    done = subprocess.run(
        [sys.executable, "-m", f"digitnet.{command[0]}", *command[1:]], cwd=tmp_path, env=environment,
        preexec_fn=forbid_writing, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_without_the_guard_importing_lightning_fails_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = os.environ | dict.fromkeys(("HOME", "TMPDIR"), str(tmp_path / "file"))
    done = subprocess.run(
        [sys.executable, "-c", "import lightning"], cwd=tmp_path, env=environment,
        preexec_fn=forbid_writing, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
