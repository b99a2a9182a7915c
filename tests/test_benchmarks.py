"""The benchmarks run; what they measure is not for a test to say."""

import json
import subprocess
import sys
from pathlib import Path

from digitnet import train
from tests.conftest import FAST, Run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_trainer_is_compared_with_a_hand_written_loop(tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "plumbing.py", "--repeats", "1", "--epochs", "2", "--train-size", "2000"]
    done = subprocess.run([*command, "--output", tmp_path / "out.json"], capture_output=True, text=True, check=True)
    assert "Trainer / by hand" in done.stdout
    outcome = json.loads((tmp_path / "out.json").read_text())
    assert outcome["median ratio"] > 0
    assert outcome["versions"]["torch"]


def test_seeds_are_collected_into_a_row(run: Run, tmp_path: Path) -> None:
    run(train, "-m", *FAST, "seed=1,2", "test=true", "hydra.sweep.dir=sweep")
    command = [sys.executable, BENCHMARKS / "collect.py", tmp_path / "sweep", "--json", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| `model=mlp debug=fast` | 2 |" in done.stdout
    (sweep,) = json.loads((tmp_path / "out.json").read_text())
    assert [outcome["seed"] for outcome in sweep["runs"]] == [1, 2]
