"""The README says nothing that does not work: its commands compose, its figures are those in benchmarks/results."""

import json
import re
import shlex
import statistics
from importlib import import_module
from pathlib import Path

import pytest

from digitnet.cli import hydra_app
from tests.conftest import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```(?:bash)?\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"^python -m digitnet\.(train|evaluate)([^#\n]*)", BLOCKS, re.MULTILINE)


@pytest.mark.parametrize(("command", "arguments"), [found for found in COMMANDS if "resume=" not in found[1]])
def test_a_command_in_the_readme_is_accepted(command: str, arguments: str) -> None:
    hydra_app.checked(shlex.split(arguments), command, check=lambda config: None, rewrite=list)


@pytest.mark.parametrize(
    ("command", "arguments"), re.findall(r"^python -m digitnet\.(predict|export|demo)([^#\n]*)", BLOCKS, re.MULTILINE)
)
def test_the_options_in_the_readme_are_there(command: str, arguments: str, run: Run) -> None:
    told = run(import_module(f"digitnet.{command}"), "--help").out
    assert set(re.findall(r"(?<= )--?[a-z-]+", arguments)) <= set(re.findall(r"--?[a-z-]+", told))


def test_the_readme_shows_the_six_recipes() -> None:
    shown = " ".join(arguments for _, arguments in COMMANDS)
    for part in ("model=mlp", "trainer.accelerator=gpu", "optimizer.lr=", "-m ", "resume=", "experiment="):
        assert part in shown
    assert "tensorboard --logdir" in BLOCKS


def test_every_row_of_the_table_is_a_result_on_file() -> None:
    sweeps = json.loads((ROOT / "benchmarks/results/accuracy.json").read_text())
    assert len(sweeps) == 11
    for sweep in sweeps:
        tested = [100 * run["test/acc"] for run in sweep["runs"]]
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{' '.join(sweep['overrides'])}`")]
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[2] == str(len(tested))
        assert f"{statistics.mean(tested):.2f}" in cells[3]
