"""Two processes that torchrun or srun starts at once share one run: its checks, its folder, its errors and its end."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from digitnet import train
from tests.conftest import FAST, CompletedRun, Run
from tests.faults.child import TINY, FaultInjection, ForkServer, ReturnValue
from tests.faults.conftest import first_difference, run_state, without_curves
from tests.training.launchers import (
    Task,
    Variables,
    free_port,
    rendezvous,
    run_tasks,
    slurm_variables,
    start_tasks,
    torchrun_variables,
    two_node_variables,
)

TRAINING_STEP = "digitnet.models.classifier:DigitClassifier.training_step"
DDP = ("trainer.accelerator=cpu", "trainer.devices=2")
NODES = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2")
SHORT = (*TINY, *DDP, "trainer.max_epochs=1")
LONG = (*TINY, *DDP, "data.batch_size=32", "hydra.run.dir=out")  # 16 steps in each of 3 epochs
LAUNCHERS = pytest.mark.parametrize(
    ("variables", "processes"),
    [(slurm_variables, DDP), (two_node_variables, NODES)],
    ids=["srun", "two nodes of torchrun"],
)


def only_error(results: list[CompletedRun]) -> str:
    """Return the one line that the processes print to stderr together.

    When a connection is lost, torch logs to stderr as well, from compiled code.
    """
    lines = [line for result in results for line in result.err.splitlines()]
    assert not any("Traceback" in line for line in lines), lines
    (line,) = [line for line in lines if line.startswith("digitnet: ")]
    return line


@LAUNCHERS
def test_two_processes_train_resume_and_evaluate_in_one_folder(
    variables: Variables, processes: tuple[str, ...], fork_server: ForkServer, tmp_path: Path
) -> None:
    with rendezvous(variables) as port:
        options = (*SHORT, *processes)
        tasks = start_tasks(fork_server, variables, *options, folder=tmp_path, port=port, ranks=(0,))
        time.sleep(1.2)  # The clock has moved on by a second, which would give another folder.
        tasks += start_tasks(fork_server, variables, *options, folder=tmp_path, port=port, ranks=(1,))
        results = [task.wait() for task in tasks]
    assert [result.status for result in results] == [0, 0], results
    assert results[1].out == "", "The first process prints."
    assert results[0].out.count("epoch 1/1") == 1
    (run,) = tmp_path.glob("logs/cnn/*")
    assert run.name == "slurm-17" or run.name.startswith("20")
    assert (run / ".hydra/overrides.yaml").is_file()

    results = run_tasks(fork_server, variables, f"resume={run}", "trainer.max_epochs=2", folder=tmp_path)
    assert [result.status for result in results] == [0, 0], results
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 16

    options = (f"model={run}", *processes, "json_path=two.json")
    results = run_tasks(fork_server, variables, *options, folder=tmp_path, command="evaluate")
    assert [result.status for result in results] == [0, 0], results
    two = json.loads((tmp_path / "two.json").read_text())
    assert fork_server.run("evaluate", f"model={run}", "json_path=one.json", folder=tmp_path).status == 0
    one = json.loads((tmp_path / "one.json").read_text())
    assert two["test/acc"] == one["test/acc"] == metrics["test/acc"]


@LAUNCHERS
def test_wrong_input_is_one_line_and_status_2_of_all_processes(
    variables: Variables, processes: tuple[str, ...], fork_server: ForkServer, tmp_path: Path
) -> None:
    results = run_tasks(
        fork_server, variables, *SHORT, *processes, "optimizer.lr=-1", "hydra.run.dir=out", folder=tmp_path
    )
    assert [result.status for result in results] == [2, 2]
    assert "optimizer.lr=-1: must be above 0" in only_error(results)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_error_that_only_the_second_process_has_is_reported(fork_server: ForkServer, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "out" / "checkpoints").mkdir(parents=True)
    options = (*SHORT, "hydra.run.dir=out", "peer_timeout=20")
    with rendezvous(slurm_variables) as port:
        tasks = start_tasks(fork_server, slurm_variables, *options, folder=tmp_path, port=port, folders=folders)
        assert tasks[1].wait().status == 2
        assert "already holds a run" in tasks[1].text("err")
        first = tasks[0].wait()
    assert first.status == 1
    assert "not all 2 processes have met within 20 s" in only_error([first])


def test_torchrun_does_not_change_a_finished_run(trained_run: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()}
    results = run_tasks(fork_server, torchrun_variables, *FAST, *DDP, "seed=7", "hydra.run.dir=out", folder=tmp_path)
    assert [result.status for result in results] == [2, 2]
    assert "already holds a run" in results[0].err
    assert before == {path: path.read_bytes() for path in trained_run.rglob("*") if path.is_file()}


def test_torchrun_without_its_number_of_devices_is_reported(fork_server: ForkServer, tmp_path: Path) -> None:
    results = run_tasks(fork_server, torchrun_variables, *TINY, "hydra.run.dir=x", folder=tmp_path)
    assert [result.status for result in results] == [2, 2]
    assert "torchrun has started 2 processes, but trainer.devices=1" in only_error(results)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        (slurm_variables(0, 1, 1), DDP, "srun has started 1 process, but trainer.devices=2 and trainer.num_nodes=1"),
        (
            {name: value for name, value in slurm_variables(0, 2, 1).items() if name != "SLURM_NTASKS_PER_NODE"},
            DDP,
            "ask for --nodes and --ntasks-per-node instead",
        ),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x"}, (), "the SLURM job has 2 tasks, but one process was started"),
        ({}, (*DDP, "trainer.num_nodes=2"), "trainer.num_nodes=2: one process was started; start 2 on each node"),
        ({}, ("peer_timeout=0",), "peer_timeout=0: must be above 0"),
    ],
    ids=["srun", "no tasks per node", "no srun", "no launcher", "timeout"],
)
def test_a_launcher_that_does_not_match_the_command_is_reported(
    variables: dict[str, str], options: tuple[str, ...], message: str, run: Run, tmp_path: Path
) -> None:
    result = run(train, *options, *TINY, **variables)
    assert result.status == 2, result.err
    assert message in only_error([result])
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_several_processes_is_reported(run: Run, tmp_path: Path) -> None:
    result = run(train, "-m", "seed=1,2", *DDP, **slurm_variables(0, 2, 1))
    assert result.status == 2, result.err
    assert "-m: srun has started 2 processes" in only_error([result])
    assert not list(tmp_path.iterdir())


@LAUNCHERS
@pytest.mark.slow
def test_with_the_clock_of_each_process_the_run_is_scattered_over_two_folders(
    variables: Variables, processes: tuple[str, ...], fork_server: ForkServer, tmp_path: Path
) -> None:
    own_clock = FaultInjection("digitnet.distributed:common_time", 0, OwnRank(), replace=True)
    run_tasks(fork_server, variables, *SHORT, *processes, folder=tmp_path, faults=[own_clock])
    assert len(list(tmp_path.glob("logs/cnn/*"))) == 2


class OwnRank:
    """Replacement of the common time: a text that differs between the processes, as the time may."""

    def __call__(self, *_: Any) -> str:
        return os.environ.get("RANK") or os.environ["SLURM_PROCID"]


class OnRank:
    """Do something in one of the processes only."""

    def __init__(self, rank: int, *signals: int) -> None:
        self.rank, self.signals = rank, signals

    def __call__(self, *_: Any, **__: Any) -> None:
        if OwnRank()() == str(self.rank):
            for number in self.signals:
                os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def uninterrupted(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the final state of a run of two processes that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("two")
    results = run_tasks(fork_server, slurm_variables, *LONG, folder=folder)
    assert [result.status for result in results] == [0, 0], results
    return run_state(folder / "out")


def test_a_run_that_was_stopped_under_srun_resumes_under_torchrun_to_the_same_bits(
    uninterrupted: dict[str, Any], fork_server: ForkServer, tmp_path: Path
) -> None:
    """The metrics of the interrupted epoch are those of both processes."""
    stop = FaultInjection(TRAINING_STEP, 20, OnRank(1, signal.SIGTERM))
    results = run_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, faults=[stop])
    assert [result.status for result in results] == [143, 143], results
    assert only_error(results) == "digitnet: stopped at step 26; resume=out continues the run"
    results = run_tasks(fork_server, torchrun_variables, "resume=out", *DDP, folder=tmp_path)
    assert [result.status for result in results] == [0, 0], results
    assert first_difference(run_state(tmp_path / "out"), uninterrupted) == ""


@pytest.mark.slow
def test_with_the_metrics_of_the_first_process_alone_the_interrupted_epoch_is_wrong(
    uninterrupted: dict[str, Any], fork_server: ForkServer, tmp_path: Path
) -> None:
    stop = FaultInjection(TRAINING_STEP, 20, OnRank(1, signal.SIGTERM))
    first_alone = FaultInjection("digitnet.models.metrics:gather", 0, InList(), replace=True)
    run_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, faults=[stop, first_alone])
    run_tasks(fork_server, slurm_variables, "resume=out", *DDP, folder=tmp_path)
    state = run_state(tmp_path / "out")
    weights, expected = (each["checkpoints"]["last.ckpt"]["state_dict"] for each in (state, uninterrupted))
    assert first_difference(weights, expected) == ""
    assert state["rows"][1]["train/loss"] != uninterrupted["rows"][1]["train/loss"]


class InList:
    """Replacement of `gather` that returns the state of this process alone."""

    def __call__(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        return [state]


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_other_with_one_line_and_the_run_resumes_to_the_same_bits(
    lost: int, uninterrupted: dict[str, Any], fork_server: ForkServer, tmp_path: Path
) -> None:
    """The other process is terminated at once, as `srun --kill-on-bad-exit=1` and torchrun do."""
    kill = FaultInjection(TRAINING_STEP, 20, OnRank(lost, signal.SIGKILL))
    with rendezvous(slurm_variables) as port:
        tasks = start_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, port=port, faults=[kill])
        assert tasks[lost].wait().status == -signal.SIGKILL
        start = time.monotonic()
        time.sleep(0.5)
        tasks[1 - lost].process.terminate()
        other = tasks[1 - lost].wait()
    assert time.monotonic() - start < 30
    assert other.status == 1
    line = only_error([other])
    assert line.startswith(f"digitnet: error: process {lost} of 2 was lost")
    assert line.endswith("resume=out continues the run from its last checkpoint")
    results = run_tasks(fork_server, slurm_variables, "resume=out", *DDP, folder=tmp_path)
    assert [result.status for result in results] == [0, 0], results
    state = without_curves(run_state(tmp_path / "out"))
    assert first_difference(state, without_curves(uninterrupted)) == ""


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_after_the_timeout(fork_server: ForkServer, tmp_path: Path) -> None:
    stop = FaultInjection(TRAINING_STEP, 20, OnRank(1, signal.SIGSTOP))
    with rendezvous(slurm_variables) as port:
        first, second = start_tasks(
            fork_server, slurm_variables, *LONG, "peer_timeout=10", folder=tmp_path, port=port, faults=[stop]
        )
        result = first.wait(90)
        second.process.kill()
    assert result.status == 1
    assert "process 1 of 2 was lost: killed, out of memory, or no answer for 10 s" in only_error([result])


@pytest.mark.slow
def test_without_the_agreement_a_killed_process_leaves_a_traceback(fork_server: ForkServer, tmp_path: Path) -> None:
    kill = FaultInjection(TRAINING_STEP, 20, OnRank(1, signal.SIGKILL))
    alone = FaultInjection("digitnet.training.processes:_is_lost_connection", 0, ReturnValue(False), replace=True)
    results = run_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, faults=[kill, alone])
    assert "Traceback" in results[0].err


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_a_process_that_waits_for_the_others_to_start(
    number: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    port = free_port()
    (task,) = start_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, port=port, ranks=(0,))
    wait_at_rendezvous(task)
    start = time.monotonic()
    os.kill(task.process.pid, number)
    result = task.wait(30)
    assert time.monotonic() - start < 5
    assert result.status == 128 + number
    assert only_error([result]) == "digitnet: stopped while it waited for the other processes to start"


def wait_at_rendezvous(task: Task) -> None:
    """Wait until the process waits for the others, which its main thread does in compiled code."""
    task.wait_for("out/.hydra/overrides.yaml")
    time.sleep(4)


@pytest.mark.slow
def test_without_the_watcher_a_signal_does_not_end_a_process_that_waits(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    no_watcher = FaultInjection("digitnet.training.processes:_Watcher._on_signal", 0, ReturnValue(), replace=True)
    (task,) = start_tasks(
        fork_server, slurm_variables, *LONG, folder=tmp_path, port=free_port(), ranks=(0,), faults=[no_watcher]
    )
    wait_at_rendezvous(task)
    os.kill(task.process.pid, signal.SIGTERM)
    task.process.join(6)
    assert task.process.exitcode is None
    task.process.kill()


def test_a_second_signal_ends_a_process_that_waits_for_another_in_training(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    hang = FaultInjection(TRAINING_STEP, 20, OnRank(1, signal.SIGSTOP))
    with rendezvous(slurm_variables) as port:
        first, second = start_tasks(fork_server, slurm_variables, *LONG, folder=tmp_path, port=port, faults=[hang])
        first.wait_for("out/checkpoints/last.ckpt")
        time.sleep(2)
        os.kill(first.process.pid, signal.SIGTERM)
        first.process.join(3)
        assert first.process.exitcode is None, "The first signal waits for the next batch."
        os.kill(first.process.pid, signal.SIGTERM)
        result = first.wait(5)
        second.process.kill()
    assert result.status == 143
    assert only_error([result]) == "digitnet: ended at once by a second signal"


def test_the_best_weights_are_tested_where_each_machine_has_its_own_disk(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    results = run_tasks(fork_server, torchrun_variables, *SHORT, "hydra.run.dir=out", folder=tmp_path, folders=folders)
    assert [result.status for result in results] == [0, 0], results
    assert (folders[0] / "out/metrics.json").is_file()
    assert not (folders[1] / "out/checkpoints").exists()
    assert not (folders[1] / "out/.hydra").exists()
