"""What `digitnet.train` refuses before it creates anything: one line, status 2, and no file."""

import csv
from pathlib import Path

import pytest

from digitnet import train
from tests.conftest import FAST, Run

REFUSED = {
    ("run_dir=other", "hydra.run.dir=x"): "run_dir=other: follows hydra.run.dir; type hydra.run.dir=other",
    ("plots=off",): "plots=off: must be true or false",
    ("tensorboard.histograms=no",): "tensorboard.histograms=no: must be true or false",
    ("resume=",): "resume=: has no value; type a path, or leave it out",
    ("hydra.run.dir=",): "hydra.run.dir=: has no value; type a path, or leave it out",
    ("peer_timeout=null",): "peer_timeout=None: must be above 0 seconds",
    ("trainer.max_epochs=-1",): "trainer.max_epochs=-1: must be above 0, or trainer.max_steps must be",
    ("trainer.overfit_batches=1",): "trainer.overfit_batches=1: must be 0; see debug=overfit",
    ("callbacks=early_stopping", "trainer.limit_val_batches=0"): "monitor=val/loss: must be a metric that is logged",
    ("model.hidden=[5500,3600]",): "model: its checkpoints would have about 290 MB, more than the 268 MB",
    ("-m", "seed=1,2", "optimizer.lr=1e-3,4e-3", "hydra.sweep.subdir=${optimizer.lr}"): "hydra.sweep.subdir: 2 jobs",
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.items(), ids=[" ".join(key) for key in REFUSED])
def test_it_is_refused_in_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, run: Run, tmp_path: Path
) -> None:
    done = run(train, *FAST, *arguments)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err
    assert not [*tmp_path.iterdir()]


def test_a_tilde_in_a_path_is_the_home_folder(run: Run, tmp_path: Path) -> None:
    done = run(train, *FAST, "hydra.run.dir=~/runs/first", "trainer.max_epochs=1", HOME=str(tmp_path / "home"))
    assert done.status == 0, done.err
    assert (tmp_path / "home" / "runs" / "first" / "metrics.json").exists()
    assert not (tmp_path / "~").exists()


def test_a_learning_rate_that_is_never_logged_is_no_error(run: Run) -> None:
    loggers = ("logger=many", "trainer.log_every_n_steps=0", "trainer.max_epochs=1")
    assert run(train, *FAST, *loggers).status == 0


@pytest.mark.parametrize(("interval", "is_recorded"), [(2, True), (3, False)])
def test_an_epoch_records_a_validation_of_its_last_weights_only(
    interval: int, is_recorded: bool, run: Run, tmp_path: Path
) -> None:
    steps = ("trainer.limit_train_batches=4", f"trainer.val_check_interval={interval}", "trainer.max_epochs=1")
    done = run(train, *FAST, *steps, "hydra.run.dir=x")
    assert done.status == 0, done.err
    (row,) = csv.DictReader((tmp_path / "x" / "metrics.csv").read_text().splitlines())
    assert bool(row.get("val/acc")) is is_recorded
