"""The direction of imports between the packages, as pyproject.toml defines it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import linter on a copy of the package, not on the installed one."""
    lint = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as lint; lint()"
    command = [sys.executable, "-c", lint, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.gz", "*.safetensors", "*.pyc"))
    return tmp_path


def test_all_imports_point_down(copied_package: Path) -> None:
    done = lint_imports(copied_package)
    assert done.returncode == 0, done.stdout
    assert "4 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("models/cnn.py", "from digitnet.data import MNISTDataModule", "Imports point down"),
        ("checkpoints/atomic.py", "import digitnet.training.run_dir", "Imports point down"),
        ("data/loader.py", "from omegaconf import DictConfig", "Only the command line and training know Hydra"),
        ("analysis/runs.py", "import digitnet.training.run_dir", "Imports point down"),
        ("analysis/statistics.py", "import torch", "Runs are compared without torch"),
        ("inference/photos/ink.py", "import torch", "Pictures are segmented without torch"),
    ],
)
def test_an_import_in_the_wrong_direction_fails(module: str, line: str, broken: str, copied_package: Path) -> None:
    path = copied_package / "src" / "digitnet" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint_imports(copied_package)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout
