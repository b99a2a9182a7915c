"""The tools train seeds, aggregate their results and publish weights into the package."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from digitnet import evaluate, train
from digitnet.checkpoints import pretrained
from digitnet.inference.reader import DigitReader
from tests.conftest import FAST, Run

ROOT = Path(__file__).parents[2]
SMALL = ("model=mlp", "data.train_size=2000", "data.augmentation=null", "trainer.log_every_n_steps=1")


def run_tool(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """Run `python -m tools.NAME` in this process."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    monkeypatch.delitem(sys.modules, f"tools.{name}", raising=False)  # runpy warns of a module that is already imported
    runpy.run_module(f"tools.{name}", run_name="__main__")


@pytest.mark.slow
def test_train_seeds_resumes_interrupted_runs_and_leaves_finished_ones_alone(tmp_path: Path) -> None:
    """Seed 1 was stopped during its evaluation, 2 before its first checkpoint; 3 is finished, 4 not started."""
    run_dirs = [tmp_path / "seeds" / seed for seed in "1234"]
    command = [sys.executable, "-m", "tools.train_seeds", tmp_path / "seeds"]
    overrides = (*SMALL, "trainer.max_epochs=2")
    subprocess.run([*command, "1,2,3", *overrides], check=True, capture_output=True, cwd=ROOT)
    for run_dir in run_dirs[:2]:
        (run_dir / "metrics.json").unlink()
    shutil.rmtree(run_dirs[1] / "checkpoints")
    finished = (run_dirs[2] / "metrics.json").stat().st_mtime_ns
    again = subprocess.run([*command, "1,2,3,4", *overrides], check=True, capture_output=True, text=True, cwd=ROOT)
    assert [json.loads((run_dir / "metrics.json").read_text())["seed"] for run_dir in run_dirs] == [1, 2, 3, 4]
    assert (run_dirs[2] / "metrics.json").stat().st_mtime_ns == finished
    assert again.stdout.count("epoch 1/2") == 2, "only the second and the fourth start from the beginning"


def test_aggregate_seeds_prints_a_row_and_keeps_other_sweeps_of_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(train, "-m", *FAST, "seed=1,2", "test=true", "hydra.sweep.dir=sweep")
    record = tmp_path / "sweep" / "0" / ".hydra" / "overrides.yaml"
    record.write_text(record.read_text() + "- ++resume='/a/run'\n")  # as in the record of a run that was resumed
    output = tmp_path / "out.json"
    run_tool(monkeypatch, "aggregate_seeds", tmp_path / "sweep", "--json", output)
    assert "| `model=mlp debug=fast` | 2 |" in capsys.readouterr().out
    (sweep,) = json.loads(output.read_text())
    assert [metrics["seed"] for metrics in sweep["runs"]] == [1, 2]
    output.write_text(json.dumps([sweep | {"overrides": ["another"]}]))
    run_tool(monkeypatch, "aggregate_seeds", tmp_path / "sweep", "--json", output)
    names = [sweep["overrides"][0] for sweep in json.loads(output.read_text())]
    assert names == ["another", "model=mlp"], "a sweep that is not aggregated again stays in the file"


def test_aggregate_seeds_refuses_a_folder_without_finished_runs_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    with pytest.raises(SystemExit, match="sweep: no finished run there; give the folder of a finished sweep") as error:
        run_tool(monkeypatch, "aggregate_seeds", tmp_path / "sweep", "--json", tmp_path / "out.json")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.json").exists()


def test_weights_are_published_with_the_calibration_of_a_run_that_held_out_the_validation_images(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", tmp_path)
    assert run(train, *FAST, "seed=1", "test=true", "hydra.run.dir=runs/1").status == 0
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, "publish_weights", "mlp", "runs", "runs/1")
    assert "must be a run of: model=mlp debug=fast data.val_size=5000" in capsys.readouterr().err
    assert not pretrained.pretrained_paths(), "the run may have other validation images"
    assert run(train, *FAST, "seed=2", "data.val_size=5000", "hydra.run.dir=held_out").status == 0
    record = tmp_path / "held_out" / ".hydra" / "overrides.yaml"
    record.write_text(record.read_text() + "- ++resume='/a/run'\n")  # as in the record of a run that was resumed
    run_tool(monkeypatch, "publish_weights", "mlp", "runs", "held_out")
    card = json.loads((tmp_path / "mlp.json").read_text())["calibration"]
    assert card["reproduce"] == "python -m digitnet.train model=mlp debug=fast seed=2 data.val_size=5000"
    assert pretrained.load("mlp").calibration == DigitReader("held_out/checkpoints/last.ckpt").fit_calibration()


def test_a_teacher_is_published_by_its_seed_and_without_a_calibration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", tmp_path / "files")
    assert run(train, "-m", *FAST, "seed=1,2", "test=true", "hydra.sweep.dir=runs").status == 0
    (tmp_path / "runs" / "1").rename(tmp_path / "runs" / "2")
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, "publish_weights", "teachers/1", "runs")
    assert "a run to calibrate with or, for a teacher, its --seed" in capsys.readouterr().err
    run_tool(monkeypatch, "publish_weights", "teachers/1", "runs", "--seed", "2")
    card = json.loads((tmp_path / "files" / "teachers" / "1.json").read_text())
    scored = json.loads(run(evaluate, "model=runs/2", "json_path=-").out)
    assert card["test/acc"] == scored["test/acc"], "of all test images, of which the run has scored some"
    teacher, second = pretrained.load("teachers/1"), pretrained.load("runs/2")
    assert teacher.calibration is None
    assert all(torch.equal(weight, second.state_dict()[key]) for key, weight in teacher.state_dict().items())
