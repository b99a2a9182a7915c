"""The benchmarks run; what they measure is not for a test to say."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from digitnet import train
from digitnet.checkpoints import pretrained
from digitnet.inference.reader import Reader
from tests.conftest import FAST, Run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str, output: Path, *arguments: object) -> dict[str, Any]:
    """Runs a benchmark on a few images and gives what it wrote."""
    command = [sys.executable, BENCHMARKS / name, *map(str, arguments), "--repeats", "1", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        "| ratio |" in done.stdout
        or "÷" in done.stdout
        or "power" in done.stdout
        or "| % |" in done.stdout
        or "| median |" in done.stdout
    )
    outcome: dict[str, Any] = json.loads(output.read_text())
    assert outcome["versions"]["torch"]
    return outcome


@pytest.mark.slow
def test_the_trainer_is_compared_with_a_hand_written_loop_and_a_dataloader(tmp_path: Path) -> None:
    ratios = benchmark("plumbing.py", tmp_path / "out.json", "--train-size", 1000)["median ratios"]
    assert len(ratios) == 5
    assert all(ratio > 0 for ratio in ratios.values())


@pytest.mark.slow
def test_start_up_and_evaluation_are_measured(tmp_path: Path) -> None:
    assert len(benchmark("startup.py", tmp_path / "startup.json")["median ratios"]) == 3
    assert len(benchmark("evaluation.py", tmp_path / "evaluation.json")["median ratios"]) == 2


@pytest.mark.slow
def test_the_guards_are_measured(tmp_path: Path) -> None:
    shares = benchmark("trust.py", tmp_path / "out.json", "--train-size", 1000)["shares"]
    assert all(share > 0 for share in shares.values())


def test_reading_is_measured(tmp_path: Path) -> None:
    outcome = benchmark("reading.py", tmp_path / "out.json", "--files", 5)
    assert sum(isinstance(figure, float) and figure > 0 for figure in outcome.values()) == 3


def test_photographs_are_scored_and_nonsense_is_counted() -> None:
    command = [sys.executable, BENCHMARKS / "photographs.py", "--count", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| 50 photographs, tuning | cnn | mlp |" in done.stdout
    assert {"letters", "look-alikes", "blank", "scribbles", "textures"} <= set(done.stdout.replace("|", " ").split())


@pytest.mark.slow  # 24 processes
def test_growth_is_measured(tmp_path: Path) -> None:
    costs = benchmark("scaling.py", tmp_path / "out.json", "--train-size", 2048)["costs"]
    assert all(cost["seconds"] > 0 and cost["mib"] > 100 for model in costs.values() for cost in model.values())


@pytest.mark.slow
def test_keras_is_timed_from_outside(tmp_path: Path) -> None:
    """Keras itself is not among the requirements of the tests: a Python that only prints stands in for it."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 21.4\n")
    python.chmod(0o755)
    outcome = benchmark("against_keras.py", tmp_path / "out.json", "--keras", python, "--train-size", 1000)
    assert set(outcome["seconds"]["Keras, cnn"]) == {21.4}
    assert len(outcome["test/acc of fast"]) == 1


@pytest.mark.slow
def test_a_row_of_seeds_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """One was stopped in its evaluation, one before its first checkpoint; one is done, one not begun."""
    small = ("model=mlp", "data.train_size=2000", "data.augmentation=null", "trainer.log_every_n_steps=1")
    folders = [tmp_path / "seeds" / seed for seed in "1234"]
    seeds = [sys.executable, BENCHMARKS / "seeds.py", tmp_path / "seeds"]
    subprocess.run([*seeds, "1,2,3", *small, "trainer.max_epochs=2"], check=True, capture_output=True)
    for stopped in folders[:2]:
        (stopped / "metrics.json").unlink()
    shutil.rmtree(folders[1] / "checkpoints")
    done = (folders[2] / "metrics.json").stat().st_mtime_ns
    again = subprocess.run(
        [*seeds, "1,2,3,4", *small, "trainer.max_epochs=2"], check=True, capture_output=True, text=True
    )
    assert [json.loads((folder / "metrics.json").read_text())["seed"] for folder in folders] == [1, 2, 3, 4]
    assert (folders[2] / "metrics.json").stat().st_mtime_ns == done
    assert again.stdout.count("epoch 1/2") == 2, "only the second and the fourth started from the beginning"


def test_seeds_are_collected_into_a_row(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(train, "-m", *FAST, "seed=1,2", "test=true", "hydra.sweep.dir=sweep")
    record = tmp_path / "sweep" / "0" / ".hydra" / "overrides.yaml"
    record.write_text(record.read_text() + "- ++resume='/a/run'\n")  # as one that was stopped has it
    monkeypatch.setattr(sys, "argv", ["collect.py", str(tmp_path / "sweep"), "--json", str(tmp_path / "out.json")])
    runpy.run_path(str(BENCHMARKS / "collect.py"), run_name="__main__")
    assert "| `model=mlp debug=fast` | 2 |" in capsys.readouterr().out
    (sweep,) = json.loads((tmp_path / "out.json").read_text())
    assert [outcome["seed"] for outcome in sweep["runs"]] == [1, 2]
    (tmp_path / "out.json").write_text(json.dumps([sweep | {"overrides": ["another"]}]))
    runpy.run_path(str(BENCHMARKS / "collect.py"), run_name="__main__")
    names = [sweep["overrides"][0] for sweep in json.loads((tmp_path / "out.json").read_text())]
    assert names == ["another", "model=mlp"], "what was known of others stays"


def test_a_network_is_shipped_with_the_calibration_of_a_run_that_has_not_seen_the_images(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ship() -> None:
        runpy.run_path(str(BENCHMARKS / "ship.py"), run_name="__main__")

    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    assert run(train, *FAST, "seed=1", "test=true", "hydra.run.dir=runs/1").status == 0
    monkeypatch.setattr(sys, "argv", ["ship.py", "mlp", "runs", "runs/1"])
    with pytest.raises(SystemExit):
        ship()
    assert "must be a run of: model=mlp debug=fast data.val_size=5000" in capsys.readouterr().err
    assert not pretrained.shipped(), "its validation images may be others"
    assert run(train, *FAST, "seed=2", "data.val_size=5000", "hydra.run.dir=held_out").status == 0
    monkeypatch.setattr(sys, "argv", ["ship.py", "mlp", "runs", "held_out"])
    ship()
    known = pretrained.load("mlp").calibration
    assert known is not None
    assert known["reproduce"] == "python -m digitnet.train model=mlp debug=fast seed=2 data.val_size=5000"
    assert known == known | Reader("held_out/checkpoints/last.ckpt").calibrate()


def test_a_teacher_is_shipped_by_its_seed_and_without_a_calibration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "files")
    assert run(train, "-m", *FAST, "seed=1,2", "test=true", "hydra.sweep.dir=runs").status == 0
    (tmp_path / "runs" / "1").rename(tmp_path / "runs" / "2")
    monkeypatch.setattr(sys, "argv", ["ship.py", "teachers/1", "runs"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(BENCHMARKS / "ship.py"), run_name="__main__")
    assert "a run to calibrate by or, for a teacher, its --seed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["ship.py", "teachers/1", "runs", "--seed", "2"])
    runpy.run_path(str(BENCHMARKS / "ship.py"), run_name="__main__")
    teacher, second = pretrained.load("teachers/1"), pretrained.load("runs/2")
    assert teacher.calibration is None
    assert all(torch.equal(weight, second.state_dict()[key]) for key, weight in teacher.state_dict().items())
