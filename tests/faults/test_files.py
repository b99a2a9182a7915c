"""Checkpoints on disk are always complete: after a kill or a disk error, a file is either the old or the new one."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from digitnet.checkpoints import checkpoint_format
from tests.faults.child import (
    TINY,
    Action,
    Barrier,
    CompletedRun,
    FaultInjection,
    ForkServer,
    RaiseOSError,
    ReturnValue,
    SendSignal,
    Sleep,
)
from tests.faults.conftest import (
    RunStoppedAt,
    file_contents,
    first_difference,
    partial_files,
    run_state,
    stop_after_step,
    trials,
    without_curves,
)
from tests.faults.test_resume import resume


class KillDuringWrite:
    """Replacement of Path.open that writes only a fraction of a checkpoint's temporary file and kills the process.

    Args:
        fraction: Fraction of the content that is written.
        nth: Number of the checkpoint write during which the process is killed, counted from 1.
    """

    def __init__(self, fraction: float, nth: int) -> None:
        self.fraction, self.nth, self.calls = fraction, nth, 0

    def __call__(self, path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open(path, mode, *arguments, **options)  # noqa: PTH123, SIM115
        if path.suffix == ".part" and path.name.startswith((".last", ".best")):
            self.calls += 1
            if self.calls == self.nth:
                write = file.write

                def write_fraction(content: bytes) -> None:
                    write(content[: int(self.fraction * len(content))])
                    file.flush()
                    SendSignal(signal.SIGKILL)()

                return FaultyFile(file, write_fraction)
        return file


class FaultyFile:
    """An open file with another `write` method."""

    def __init__(self, file: Any, write: Any) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def count_valid_checkpoints(run: Path) -> int:
    """Load every checkpoint of a run and return their number."""
    paths = list((run / "checkpoints").glob("*.ckpt"))
    return len([checkpoint_format.load_checkpoint(path) for path in paths])


FRACTIONS = [(i / 25, nth) for nth in (1, 4) for i in range(25)]


@pytest.mark.parametrize(("fraction", "nth"), trials(FRACTIONS, fast=[FRACTIONS[i] for i in (0, 12, 24, 30, 49)]))
def test_a_kill_during_a_checkpoint_write_leaves_the_previous_checkpoints_intact(
    fraction: float,
    nth: int,
    fork_server: ForkServer,
    reference_state: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The temporary folder of the system is on another disk here.

    In this case Lightning's own way of writing would destroy the old file.
    """
    shm = Path("/dev/shm")
    if shm.is_dir():
        monkeypatch.setenv("TMPDIR", str(shm))
    kill = FaultInjection("pathlib:Path.open", 0, KillDuringWrite(fraction, nth), replace=True)
    assert fork_server.run("train", *TINY, "hydra.run.dir=out", folder=tmp_path, faults=[kill]).status == -9
    assert count_valid_checkpoints(tmp_path / "out") == (0 if nth == 1 else 2)
    assert len(partial_files(tmp_path)) == 1
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(without_curves(run_state(tmp_path / "out")), without_curves(reference_state)) == ""
    assert partial_files(tmp_path) == []


@dataclass
class WriteInPlace:
    """Write a file directly, without a temporary file, and run an action when half of last.ckpt is written."""

    halfway: Action

    def __call__(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            if path.name == "last.ckpt":
                self.halfway()
            file.write(content[len(content) // 2 :])


def without_temporary_file(halfway: Action) -> FaultInjection:
    """Return the fault that replaces the atomic write of files by a direct one."""
    return FaultInjection("digitnet.checkpoints.atomic:atomic_write", 0, WriteInPlace(halfway), replace=True)


@pytest.mark.parametrize("halfway", [SendSignal(signal.SIGKILL), RaiseOSError(errno.ENOSPC)], ids=["kill", "full disk"])
def test_without_a_temporary_file_an_interrupted_write_destroys_the_checkpoint(
    halfway: Action, stopped_run: RunStoppedAt, fork_server: ForkServer, tmp_path: Path
) -> None:
    stopped_run(3)
    assert fork_server.run("train", "resume=out", folder=tmp_path, faults=[without_temporary_file(halfway)]).status != 0
    with pytest.raises(checkpoint_format.UsageError):
        checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")


class FailWrite:
    """Replacement of Path.open in which writing to the temporary file of last.ckpt raises an OSError."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open(path, mode, *arguments, **options)  # noqa: PTH123, SIM115
        return FaultyFile(file, RaiseOSError(self.number)) if path.name.startswith(".last") else file


class FailForLastCheckpoint:
    """Replacement of a method of Path that raises an OSError for the temporary file of last.ckpt or its folder."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.original = number, getattr(Path, name)

    def __call__(self, path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.startswith(".last") or (path.name == "checkpoints"):
            RaiseOSError(self.number)()
        return self.original(path, *arguments, **options)


ERROR_NUMBERS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]
DISK_FAULTS = {
    "write": lambda number: FaultInjection("pathlib:Path.open", 0, FailWrite(number), replace=True),
    "fsync": lambda number: FaultInjection(
        "os:fsync", 3, RaiseOSError(number)
    ),  # The first two calls are for metrics.csv and its folder.
    "replace": lambda number: FaultInjection(
        "pathlib:Path.replace", 0, FailForLastCheckpoint(number, "replace"), replace=True
    ),
    "mkdir": lambda number: FaultInjection(
        "pathlib:Path.mkdir", 0, FailForLastCheckpoint(number, "mkdir"), replace=True
    ),
}
DISK_CASES = [(number, call) for number in ERROR_NUMBERS for call in DISK_FAULTS]


@pytest.mark.parametrize(("number", "call"), trials(DISK_CASES, fast=[DISK_CASES[i] for i in (0, 1, 2, 3, 8, 13)]))
def test_a_disk_error_is_reported_in_one_line_and_keeps_the_last_checkpoint(
    number: int,
    call: str,
    stopped_run: RunStoppedAt,
    fork_server: ForkServer,
    reference_state: dict[str, Any],
    tmp_path: Path,
) -> None:
    stopped_run(9)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "checkpoints").iterdir()}
    failed = fork_server.run("train", "resume=out", folder=tmp_path, faults=[DISK_FAULTS[call](number)])
    assert failed.status == 1
    assert failed.err.count("\n") == 1, failed.err
    assert "cannot be written" in failed.err
    after = {path: path.read_bytes() for path in (tmp_path / "out" / "checkpoints").iterdir()}
    assert after.keys() == before.keys(), "No partial file may remain."
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    assert after[last] == before[last]
    assert resume(fork_server, tmp_path).status == 0
    assert first_difference(without_curves(run_state(tmp_path / "out")), without_curves(reference_state)) == ""


@contextmanager
def training_process(fork_server: ForkServer, folder: Path, *faults: FaultInjection) -> Iterator[Any]:
    """Train in `out` in another process while the block runs, which starts after the first checkpoint is written."""
    options = (*TINY, "trainer.max_epochs=2000", "hydra.run.dir=out")
    process = fork_server.start("train", *options, folder=folder, faults=faults)
    try:
        while not (folder / "out" / "checkpoints" / "last.ckpt").exists():
            assert process.exitcode is None, (folder / ".err").read_text()
            time.sleep(0.02)
        yield process
        assert process.exitcode is None
    finally:
        process.kill()
        process.join()


def read_steps(run: Path, reads: int) -> set[int]:
    """Load last.ckpt `reads` times and return the different steps at which it was saved."""
    return {checkpoint_format.load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] for _ in range(reads)}


@pytest.mark.parametrize("reads", trials((100, 1000), fast=(100,)))
def test_reading_while_another_process_writes_always_gives_a_complete_checkpoint(
    reads: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    with training_process(fork_server, tmp_path):
        steps = read_steps(tmp_path / "out", reads)
    assert len(steps) > 3, "The other process wrote too few checkpoints during the test."


def test_without_a_temporary_file_a_reader_sees_a_partial_checkpoint(fork_server: ForkServer, tmp_path: Path) -> None:
    with (
        training_process(fork_server, tmp_path, without_temporary_file(Sleep(0.01))),
        pytest.raises(checkpoint_format.UsageError),
    ):
        read_steps(tmp_path / "out", 1000)


def test_a_second_training_process_in_the_same_folder_is_rejected(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with training_process(fork_server, tmp_path):
        record = (tmp_path / "out" / ".hydra" / "overrides.yaml").read_bytes()
        second = fork_server.run("train", f"resume={tmp_path / 'out'}", folder=tmp_path / "second")
        assert second.status == 2
        assert "another process is training there" in second.err
        fresh = fork_server.run("train", *TINY, f"hydra.run.dir={tmp_path / 'out'}", folder=tmp_path / "second")
        assert fresh.status == 2
        assert (tmp_path / "out" / ".hydra" / "overrides.yaml").read_bytes() == record
    restarted = fork_server.run("train", "resume=out", folder=tmp_path, faults=[stop_after_step(1)])
    assert restarted.status == 143, "A killed training process must leave no lock behind."


def test_without_the_lock_two_processes_train_in_the_same_folder(fork_server: ForkServer, tmp_path: Path) -> None:
    disabled = FaultInjection("digitnet.training.run_dir:lock_run_dir", 0, ReturnValue(nullcontext()), replace=True)
    (tmp_path / "second").mkdir()
    with training_process(fork_server, tmp_path) as first:
        os.kill(first.pid, signal.SIGSTOP)  # Otherwise it could fail when the second removes its partial files.
        second = fork_server.run(
            "train", "resume=../out", folder=tmp_path / "second", faults=[disabled, stop_after_step(1)]
        )
    assert second.status == 143, "The second process must have trained as well."


# Called after the run folder was found unused and before it is locked.
LOCK = "digitnet.train:lock"


@pytest.mark.parametrize("kind", trials(("run", "sweep"), fast=["run"]))
def test_one_of_two_commands_started_at_once_in_one_folder_is_rejected(
    kind: str, fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "barrier").mkdir()
    sweep = ("-m", "seed=1,2") if kind == "sweep" else ()
    processes = {}
    for name in ("1", "2"):  # Also the value of an option that identifies the command and has no effect.
        (tmp_path / name).mkdir()
        arguments = (*sweep, *TINY, f"trainer.min_epochs={name}", f"hydra.{kind}.dir=../out")
        barrier = FaultInjection(LOCK, 1, Barrier(tmp_path / "barrier"))
        processes[name] = fork_server.start("train", *arguments, folder=tmp_path / name, faults=[barrier])
    for process in processes.values():
        process.join(120)
    winner, loser = sorted(processes, key=lambda name: processes[name].exitcode)
    assert (processes[winner].exitcode, processes[loser].exitcode) == (0, 2)
    error = (tmp_path / loser / ".err").read_text()
    assert error.count("\n") == 1
    assert "out: another process is training there" in error
    records = [path.read_text() for path in (tmp_path / "out").rglob("overrides.yaml")]
    assert len(records) == (2 if sweep else 1)
    assert all(f"trainer.min_epochs={winner}" in record for record in records)
    first = tmp_path / "out" / ("0" if sweep else "")
    assert first_difference(run_state(first)["checkpoints"], reference_state["checkpoints"]) == ""


def start_run_during_start_of_another(
    fork_server: ForkServer, folder: Path, *disabled: FaultInjection
) -> tuple[CompletedRun, list[str]]:
    """Run a command from start to end in a folder that a late command has found unused, but has not yet locked.

    Returns:
        The completed late command, and the names of the files of the other run that it changed.
    """
    for name in ("barrier", "late"):
        (folder / name).mkdir()
    barrier = FaultInjection(LOCK, 1, Barrier(folder / "barrier"))
    options = (*TINY, "optimizer.lr=0.5", "hydra.run.dir=../out")
    late = fork_server.start("train", *options, folder=folder / "late", faults=[*disabled, barrier])
    while not list((folder / "barrier").iterdir()):
        assert late.exitcode is None, (folder / "late" / ".err").read_text()
        time.sleep(0.02)
    assert fork_server.run("train", *TINY, "hydra.run.dir=out", folder=folder).status == 0
    before = file_contents(folder / "out")
    (folder / "barrier" / "go").touch()
    late.join(120)
    changed = [path.name for path, content in before.items() if file_contents(folder / "out")[path] != content]
    return CompletedRun(late.exitcode, "", (folder / "late" / ".err").read_text(), 0), changed


def test_a_run_started_in_a_folder_used_in_the_meantime_overwrites_nothing(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    late, changed = start_run_during_start_of_another(fork_server, tmp_path)
    assert late.status == 2
    assert "out already holds a run" in late.err
    assert changed == []


def test_without_the_check_under_the_lock_a_late_run_overwrites_the_record(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    _, changed = start_run_during_start_of_another(
        fork_server, tmp_path, FaultInjection(LOCK, 0, ReturnValue(nullcontext()), replace=True)
    )
    assert {"config.yaml", "overrides.yaml"} <= set(changed)


@pytest.mark.fault
def test_one_of_two_real_processes_started_at_once_in_one_folder_is_rejected(
    reference_state: dict[str, Any], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "digitnet.train", *TINY, "hydra.run.dir=out"]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(process.wait(120) for process in processes) == [0, 2]
    assert first_difference(run_state(tmp_path / "out")["checkpoints"], reference_state["checkpoints"]) == ""


def test_a_moved_run_resumes_in_its_new_folder(
    stopped_run: RunStoppedAt, fork_server: ForkServer, reference_state: dict[str, Any], tmp_path: Path
) -> None:
    shutil.move(stopped_run(11), tmp_path / "elsewhere")
    assert fork_server.run("train", "resume=elsewhere", folder=tmp_path).status == 0
    assert first_difference(run_state(tmp_path / "elsewhere"), reference_state) == ""
    assert json.loads((tmp_path / "elsewhere" / "metrics.json").read_text())["steps"] == 24
