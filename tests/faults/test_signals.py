"""SIGTERM ends with 143, SIGINT with 130, soon, with the state on file, whatever the command is doing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.faults.child import TINY, Forks, Give, Sabotage, Send
from tests.faults.conftest import difference, leftovers, state, trials, without_curves
from tests.faults.test_files import whole_files
from tests.faults.test_resume import resume

# Where the signal comes: a function, and which call of it.
PLACES = {
    "set-up": ("digitnet.data.datamodule:MNISTDataModule.prepare_data", 1),
    "fit's set-up": ("digitnet.training.callbacks.tensorboard:TensorBoardReport.setup", 1),
    "train": ("digitnet.models.classifier:DigitClassifier.training_step", 12),
    "validation": ("digitnet.models.module:DigitModule.validation_step", 2),
    "save": ("digitnet.checkpoints.checkpoint_format:sealed", 2),
    "test": ("digitnet.models.module:DigitModule.test_step", 3),
    "outcome": ("digitnet.training.recording:to_json", 1),
}
SENT = {"SIGTERM": (15,), "SIGINT": (2,), "SIGTERM twice": (15, 15), "SIGINT, SIGTERM": (2, 15)}
CASES = [(place, sent) for place in PLACES for sent in SENT]
FAST = [("train", "SIGINT"), ("train", "SIGTERM twice"), ("validation", "SIGTERM"), ("save", "SIGINT, SIGTERM")]
FAST += [("test", "SIGTERM"), ("set-up", "SIGINT")]


@pytest.mark.parametrize(("place", "sent"), trials(CASES, fast=FAST))
def test_a_signal_in(place: str, sent: str, forks: Forks, whole: dict[str, Any], tmp_path: Path) -> None:
    target, nth = PLACES[place]
    signalled = Sabotage(target, nth, Send(*SENT[sent]))
    stopped = forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[signalled])
    assert stopped.status == 128 + SENT[sent][0], stopped.err
    assert "Traceback" not in stopped.err
    assert stopped.seconds < 20, "the whole command; the bound of 5 s after the signal is held by the real one"
    assert leftovers(tmp_path) == []
    if place in ("train", "validation", "save", "test", "outcome"):
        assert whole_files(tmp_path / "out") == 2
    assert resume(forks, tmp_path).status == 0
    assert difference(without_curves(state(tmp_path / "out")), without_curves(whole)) == ""


def test_a_stop_at_the_end_of_an_epoch_keeps_the_curves(forks: Forks, whole: dict[str, Any], tmp_path: Path) -> None:
    target, nth = PLACES["validation"]
    forks.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[Sabotage(target, nth, Send(15))])
    resume(forks, tmp_path)
    assert difference(state(tmp_path / "out"), whole) == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_evaluate_ends_at_once_and_writes_nothing(number: int, finished: Path, forks: Forks, tmp_path: Path) -> None:
    signalled = Sabotage(PLACES["test"][0], 2, Send(number))
    done = forks.run("evaluate", "model=out", "json_path=figures.json", folder=tmp_path, sabotages=[signalled])
    assert done.status == 128 + number, done.err
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize("number", trials((signal.SIGTERM, signal.SIGINT), fast=[signal.SIGTERM]))
def test_a_sweep_stops_as_a_whole_and_goes_on_where_it_was(number: int, forks: Forks, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "seed=1,2,3", "test=true", "hydra.sweep.dir=sweep")
    signalled = Sabotage(PLACES["train"][0], 24 + 5, Send(number))
    stopped = forks.run("train", *sweep, folder=tmp_path, sabotages=[signalled])
    assert stopped.status == 128 + number, stopped.err
    assert sorted(path.parent.name for path in tmp_path.glob("sweep/*/metrics.json")) == ["0"]
    first = (tmp_path / "sweep" / "0" / "metrics.json").read_bytes()
    done = forks.run("train", *sweep, folder=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "sweep" / "0" / "metrics.json").read_bytes() == first
    assert forks.run("train", *TINY, "seed=2", "test=true", "hydra.run.dir=alone", folder=tmp_path).status == 0
    assert difference(state(tmp_path / "sweep" / "1"), state(tmp_path / "alone")) == ""


@pytest.mark.parametrize("number", trials((signal.SIGTERM, signal.SIGINT), fast=[signal.SIGTERM]))
def test_the_real_command_as_it_comes_stops_within_five_seconds(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digitnet.train", "hydra.run.dir=out"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        while not list(tmp_path.glob("out/events*")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        time.sleep(2)  # into the first epoch
        sent = time.perf_counter()
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert time.perf_counter() - sent < 5
    last = checkpoint_format.load(tmp_path / "out" / "checkpoints" / "last.ckpt")
    assert f"stopped at step {last['global_step']}; resume=out" in (tmp_path / "log").read_text()


def test_without_our_handler_a_terminated_run_looks_like_a_success(forks: Forks, tmp_path: Path) -> None:
    off = Sabotage("digitnet.signals:listen_again", 0, Give(), instead=True)
    chained = Sabotage("digitnet.signals:handle", 0, Give(), instead=True)
    target, nth = PLACES["train"]
    stopped = forks.run(
        "train", *TINY, "hydra.run.dir=out", folder=tmp_path, sabotages=[off, chained, Sabotage(target, nth, Send(15))]
    )
    assert stopped.status == 0, "a terminated run looks like a success"
    assert not (tmp_path / "out" / "metrics.json").exists()


FAILING = "1e+30,1e-3,1e+35", "1e-3,1e+30,2e-3,1e+35", "1e-3,1e+30", "1e+30,1e+35"  # jobs that diverge, and others


@pytest.mark.parametrize("rates", trials(FAILING, fast=FAILING[:1]))
def test_a_failing_job_of_a_sweep_is_named_and_the_others_run(rates: str, forks: Forks, tmp_path: Path) -> None:
    """Run again, only those that failed are tried."""
    sweep = ("-m", *TINY, "optimizer.name=sgd", f"optimizer.lr={rates}", "hydra.sweep.dir=sweep")
    jobs = {str(job): rate for job, rate in enumerate(rates.split(","))}
    bad = {job: rate for job, rate in jobs.items() if float(rate) > 1}
    done = forks.run("train", *sweep, folder=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("digitnet: error")]
    for line, (job, rate) in zip(lines, bad.items(), strict=True):
        assert f"job {job} (" in line
        assert f"optimizer.lr={rate}" in line
        assert "diverged in epoch 1" in line
    finished = sorted(tmp_path.glob("sweep/*/metrics.json"))
    assert {path.parent.name for path in finished} == jobs.keys() - bad.keys()
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert forks.run("train", *sweep, folder=tmp_path).status == 1
    assert before == {path: path.stat().st_mtime_ns for path in finished}
    assert all(json.loads(path.read_text())["steps"] == 24 for path in finished)


class Forgetful:
    """In place of what remembers the failures of a sweep."""

    def __call__(self, failures: list[Any], task: Any) -> Any:
        return task


def test_without_a_memory_of_failures_only_the_first_is_named(forks: Forks, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "optimizer.name=sgd", f"optimizer.lr={FAILING[0]}", "hydra.sweep.dir=sweep")
    off = Sabotage("digitnet.cli.hydra_app:remembering", 0, Forgetful(), instead=True)
    told = forks.run("train", *sweep, folder=tmp_path, sabotages=[off]).err
    assert told.count("diverged") == 1
    assert "1e+35" not in told


@pytest.mark.fault
def test_a_signal_in_mid_sweep_hides_no_failure(forks: Forks, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "optimizer.name=sgd", "optimizer.lr=1e+30,1e-3,2e-3", "hydra.sweep.dir=sweep")
    signalled = Sabotage(PLACES["train"][0], 8 + 5, Send(signal.SIGTERM))  # the first job fails after an epoch
    stopped = forks.run("train", *sweep, folder=tmp_path, sabotages=[signalled])
    assert stopped.status == 143, stopped.err
    assert "digitnet: error: job 0 (" in stopped.err
    assert sorted(path.name for path in tmp_path.glob("sweep/[0-9]")) == ["0", "1"]


def test_another_sweep_does_not_take_the_folder_of_one(forks: Forks, tmp_path: Path) -> None:
    assert forks.run("train", "-m", *TINY, "seed=1,2", "hydra.sweep.dir=sweep", folder=tmp_path).status == 0
    other = forks.run("train", "-m", *TINY, "seed=3,4", "hydra.sweep.dir=sweep", folder=tmp_path)
    assert other.status == 2
    assert "holds a run of another sweep" in other.err
