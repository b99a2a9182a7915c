"""Finished runs: how they are found in folders, read for a report, and compared by their settings."""

import json
from pathlib import Path

import numpy as np
import pytest

from digitnet import report, train
from digitnet.data import mnist
from digitnet.training.finished_runs import find_run_dirs
from tests.conftest import Run


def write_arrays(path: Path) -> None:
    """Write 500 training images of MNIST as a file of arrays."""
    images, labels = (tensor[:500].numpy() for tensor in mnist.load_mnist("train"))
    np.savez(path, train_images=images, train_labels=labels)


def test_a_run_that_has_to_be_scored_and_whose_data_is_gone_is_reported_in_one_line(run: Run, tmp_path: Path) -> None:
    write_arrays(tmp_path / "own.npz")
    overrides = ("model=mlp", "data=arrays", f"data.root={tmp_path / 'own.npz'}", "data.batch_size=64")
    done = run(train, *overrides, "trainer.max_epochs=1", "trainer.logger=false", "test=false", "hydra.run.dir=out")
    assert done.status == 0, done.err
    assert "test/acc" not in json.loads((tmp_path / "out" / "metrics.json").read_text())
    scored = run(report, "out", "--test")
    assert scored.status == 0, scored.err
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    refused = run(report, "out", "--test")
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "out: has no test accuracy, and it cannot be computed: its data is not here" in refused.err
    assert run(report, "out").status == 0, "The validation accuracy is on file."


def start_run(run_dir: Path, finished: bool = True) -> None:
    """Write the files by which a run is found."""
    (run_dir / ".hydra").mkdir(parents=True)
    (run_dir / ".hydra" / "config.yaml").touch()
    if finished:
        (run_dir / "metrics.json").touch()


def test_a_folder_stands_for_all_runs_in_it_at_every_depth(tmp_path: Path) -> None:
    names = ["single", "cnn/t1", "sweeps/s/0", "sweeps/s/2", "sweeps/s/10", "study/0007/seed_1", "study/0007/seed_2"]
    for name in names:
        start_run(tmp_path / name)
    start_run(tmp_path / "single" / "kept" / "copy")  # belongs to the run around it
    start_run(tmp_path / "mlp" / "t1", finished=False)
    start_run(tmp_path / "sweeps" / "s" / "1", finished=False)
    run_dirs, notes = find_run_dirs([tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in run_dirs] == [
        *("cnn/t1", "single", "study/0007/seed_1", "study/0007/seed_2", "sweeps/s/0", "sweeps/s/2", "sweeps/s/10"),
    ]
    assert notes == [f"{tmp_path}: 2 unfinished runs are left out."]


def test_a_run_a_sweep_and_a_study_are_found_by_their_own_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run", "sweep/0", "sweep/1", "study/0007/seed_1", "study/0007/seed_2", "study/0010/seed_1"):
        start_run(tmp_path / name)
    start_run(tmp_path / "run" / "inner")
    monkeypatch.chdir(tmp_path / "run")
    found = {name: list(map(str, find_run_dirs([tmp_path / name])[0])) for name in ("run", "sweep", "study")}
    assert found == {
        "run": [str(tmp_path / "run")],
        "sweep": [str(tmp_path / "sweep" / name) for name in ("0", "1")],
        "study": [str(tmp_path / "study" / name) for name in ("0007/seed_1", "0007/seed_2", "0010/seed_1")],
    }
    assert find_run_dirs([Path()])[0] == [Path()]
