"""At any moment, SIGTERM ends a command with status 143 and SIGINT with 130, within seconds and with a saved state."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.faults.child import TINY, FaultInjection, ForkServer, ReturnValue, SendSignal
from tests.faults.conftest import first_difference, partial_files, run_state, trials, without_curves
from tests.faults.test_files import count_valid_checkpoints
from tests.faults.test_resume import resume

# The moments at which the signal arrives: a function, and the number of its call.
MOMENTS = {
    "data preparation": ("digitnet.data.datamodule:MNISTDataModule.prepare_data", 1),
    "setup of fit": ("digitnet.training.callbacks.tensorboard:TensorBoardReport.setup", 1),
    "train": ("digitnet.models.classifier:DigitClassifier.training_step", 12),
    "validation": ("digitnet.models.module:DigitModule.validation_step", 2),
    "checkpoint write": ("digitnet.checkpoints.checkpoint_format:append_checksum", 2),
    "test": ("digitnet.models.module:DigitModule.test_step", 3),
    "metrics.json write": ("digitnet.training.run_dir:to_json", 1),
}
SIGNALS = {"SIGTERM": (15,), "SIGINT": (2,), "SIGTERM twice": (15, 15), "SIGINT, SIGTERM": (2, 15)}
CASES = [(moment, signals) for moment in MOMENTS for signals in SIGNALS]
FAST = [
    ("train", "SIGINT"),
    ("train", "SIGTERM twice"),
    ("validation", "SIGTERM"),
    ("checkpoint write", "SIGINT, SIGTERM"),
]
FAST += [("test", "SIGTERM"), ("data preparation", "SIGINT")]


@pytest.mark.parametrize(("moment", "signals"), trials(CASES, fast=FAST))
def test_a_signal_at_any_moment_stops_the_run_so_that_it_resumes_to_the_same_bits(
    moment: str, signals: str, fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    target, nth = MOMENTS[moment]
    send_signals = FaultInjection(target, nth, SendSignal(*SIGNALS[signals]))
    stopped = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[send_signals])
    assert stopped.status == 128 + SIGNALS[signals][0], stopped.err
    assert "Traceback" not in stopped.err
    assert stopped.seconds < 20, (
        "This is the time of the complete command. The test with a real process checks the limit of 5 s after a signal."
    )
    assert partial_files(tmp_path) == []
    if moment in ("train", "validation", "checkpoint write", "test", "metrics.json write"):
        assert count_valid_checkpoints(tmp_path / "out") == 2
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(without_curves(run_state(tmp_path / "out")), without_curves(reference_state)) == ""


def test_a_stop_during_validation_loses_no_point_of_the_curves(
    fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    target, nth = MOMENTS["validation"]
    fork_server.run(
        "train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[FaultInjection(target, nth, SendSignal(15))]
    )
    resume(fork_server, tmp_path)
    assert first_difference(run_state(tmp_path / "out"), reference_state) == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_evaluate_before_it_writes_its_results(
    number: int, finished_run: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    send_signals = FaultInjection(MOMENTS["test"][0], 2, SendSignal(number))
    result = fork_server.run("evaluate", "model=out", "json_path=metrics.json", folder=tmp_path, faults=[send_signals])
    assert result.status == 128 + number, result.err
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("number", trials((signal.SIGTERM, signal.SIGINT), fast=[signal.SIGTERM]))
def test_a_signal_stops_the_complete_sweep_and_the_same_command_continues_it(
    number: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    sweep = ("-m", *TINY, "seed=1,2,3", "test=true", "hydra.sweep.dir=sweep")
    send_signals = FaultInjection(MOMENTS["train"][0], 24 + 5, SendSignal(number))
    stopped = fork_server.run("train", *sweep, folder=tmp_path, faults=[send_signals])
    assert stopped.status == 128 + number, stopped.err
    assert sorted(path.parent.name for path in tmp_path.glob("sweep/*/metrics.json")) == ["0"]
    first = (tmp_path / "sweep" / "0" / "metrics.json").read_bytes()
    result = fork_server.run("train", *sweep, folder=tmp_path)
    assert result.status == 0, result.err
    assert (tmp_path / "sweep" / "0" / "metrics.json").read_bytes() == first
    assert fork_server.run("train", *TINY, "seed=2", "test=true", "hydra.run.dir=single", folder=tmp_path).status == 0
    assert first_difference(run_state(tmp_path / "sweep" / "1"), run_state(tmp_path / "single")) == ""


@pytest.mark.parametrize("number", trials((signal.SIGTERM, signal.SIGINT), fast=[signal.SIGTERM]))
def test_a_real_process_with_the_default_configuration_stops_within_five_seconds(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digitnet.train", "hydra.run.dir=out"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        while not list(tmp_path.glob("out/events*")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        time.sleep(2)  # The process is in the first epoch then.
        signal_time = time.perf_counter()
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert time.perf_counter() - signal_time < 5
    last = checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")
    assert f"stopped at step {last['global_step']}; resume=out" in (tmp_path / "log").read_text()


def test_without_the_signal_handler_of_digitnet_a_terminated_run_exits_with_status_0(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    not_reinstalled = FaultInjection("digitnet.signals:reinstall_handlers", 0, ReturnValue(), replace=True)
    no_handler = FaultInjection("digitnet.signals:on_signal", 0, ReturnValue(), replace=True)
    target, nth = MOMENTS["train"]
    stopped = fork_server.run(
        "train",
        *TINY,
        "hydra.run.dir=out",
        folder=tmp_path,
        faults=[not_reinstalled, no_handler, FaultInjection(target, nth, SendSignal(15))],
    )
    assert stopped.status == 0, "Lightning ends a terminated run with status 0."
    assert not (tmp_path / "out" / "metrics.json").exists()


SWEEPS_WITH_FAILURES = (
    "1e+30,1e-3,1e+35",
    "1e-3,1e+30,2e-3,1e+35",
    "1e-3,1e+30",
    "1e+30,1e+35",
)  # Rates above 1 diverge.


@pytest.mark.parametrize("rates", trials(SWEEPS_WITH_FAILURES, fast=SWEEPS_WITH_FAILURES[:1]))
def test_a_sweep_reports_each_failed_job_and_runs_all_others(
    rates: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    """The same sweep started again runs only the jobs that failed."""
    sweep = ("-m", *TINY, "optimizer.name=sgd", f"optimizer.lr={rates}", "hydra.sweep.dir=sweep")
    jobs = {str(job): rate for job, rate in enumerate(rates.split(","))}
    failing = {job: rate for job, rate in jobs.items() if float(rate) > 1}
    result = fork_server.run("train", *sweep, folder=tmp_path)
    assert result.status == 1
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("digitnet: error")]
    for line, (job, rate) in zip(lines, failing.items(), strict=True):
        assert f"job {job} (" in line
        assert f"optimizer.lr={rate}" in line
        assert "diverged in epoch 1" in line
    finished_jobs = sorted(tmp_path.glob("sweep/*/metrics.json"))
    assert {path.parent.name for path in finished_jobs} == jobs.keys() - failing.keys()
    before = {path: path.stat().st_mtime_ns for path in finished_jobs}
    assert fork_server.run("train", *sweep, folder=tmp_path).status == 1
    assert before == {path: path.stat().st_mtime_ns for path in finished_jobs}
    assert all(json.loads(path.read_text())["steps"] == 24 for path in finished_jobs)


class IgnoreFailures:
    """Replacement of the function that collects the failures of a sweep; it returns the job unchanged."""

    def __call__(self, failures: list[Any], task: Any) -> Any:
        return task


def test_without_collecting_failures_a_sweep_reports_only_the_first(fork_server: ForkServer, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "optimizer.name=sgd", f"optimizer.lr={SWEEPS_WITH_FAILURES[0]}", "hydra.sweep.dir=sweep")
    disabled = FaultInjection("digitnet.cli.hydra_app:_collect_failures", 0, IgnoreFailures(), replace=True)
    error = fork_server.run("train", *sweep, folder=tmp_path, faults=[disabled]).err
    assert error.count("diverged") == 1
    assert "1e+35" not in error


@pytest.mark.fault
def test_a_sweep_stopped_by_a_signal_still_reports_the_jobs_that_failed_before(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    sweep = ("-m", *TINY, "optimizer.name=sgd", "optimizer.lr=1e+30,1e-3,2e-3", "hydra.sweep.dir=sweep")
    send_signals = FaultInjection(
        MOMENTS["train"][0], 8 + 5, SendSignal(signal.SIGTERM)
    )  # The first job fails after its 8 steps of epoch 1.
    stopped = fork_server.run("train", *sweep, folder=tmp_path, faults=[send_signals])
    assert stopped.status == 143, stopped.err
    assert "digitnet: error: job 0 (" in stopped.err
    assert sorted(path.name for path in tmp_path.glob("sweep/[0-9]")) == ["0", "1"]


def test_a_sweep_is_rejected_in_the_folder_of_a_different_sweep(fork_server: ForkServer, tmp_path: Path) -> None:
    assert fork_server.run("train", "-m", *TINY, "seed=1,2", "hydra.sweep.dir=sweep", folder=tmp_path).status == 0
    other = fork_server.run("train", "-m", *TINY, "seed=3,4", "hydra.sweep.dir=sweep", folder=tmp_path)
    assert other.status == 2
    assert "holds a run of another sweep" in other.err
