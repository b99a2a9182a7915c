"""`latest`, a checkpoint's path, the table of a sweep, and the refusal of a sweeper that minimizes."""

from pathlib import Path

import pytest

from digitnet import evaluate, train
from digitnet.errors import UsageError
from digitnet.training.resume_overrides import expand_resume
from tests.conftest import FAST, Run


def test_latest_is_the_run_that_was_started_last(run: Run, trained_run: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "mlp"
    logs.mkdir(parents=True)
    trained_run.rename(logs / "first")
    done = run(evaluate, "model=latest")
    assert done.status == 0, done.err
    assert "model=latest is logs/mlp/first" in done.err
    resumed = run(train, "resume=latest")
    assert resumed.status == 0, resumed.err
    assert "logs/mlp/first is finished" in resumed.out


def test_latest_without_a_run_is_refused_in_one_line(run: Run) -> None:
    done = run(train, "resume=latest")
    assert done.status == 2
    assert "there is no run below" in done.err
    assert done.err.count("\n") == 1


def test_the_path_of_the_last_checkpoint_stands_for_its_run(trained_run: Path) -> None:
    assert f"resume={trained_run}" in expand_resume([f"resume='{trained_run}/checkpoints/last.ckpt'"])
    with pytest.raises(UsageError, match="its checkpoints"):
        expand_resume([f"resume='{trained_run}/checkpoints/best.ckpt'"])


def test_a_sweep_ends_with_a_table_of_all_runs_the_best_first(run: Run) -> None:
    done = run(train, "-m", *FAST, "optimizer.lr=1e-6,1e-2", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    table = done.out.partition("2 runs in sweep")[2]
    assert table.index("0.01") < table.index("1e-06")
    assert "optimizer.lr" in table
    assert "debug" not in table, "All runs have the same value."
    assert "highest val/acc: sweep/1" in table


def test_a_sweeper_that_minimizes_the_accuracy_is_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "hydra" / "sweeper"
    folder.mkdir(parents=True)
    target = "_target_: hydra._internal.core_plugins.basic_sweeper.BasicSweeper\nmax_batch_size: null\nparams: null\n"
    (folder / "lowest.yaml").write_text(f"{target}direction: minimize\n")
    done = run(train, "-m", "--config-dir", "conf", *FAST, "seed=1,2", "hydra/sweeper=lowest")
    assert done.status == 2
    assert "hydra.sweeper.direction=minimize: must be maximize" in done.err
