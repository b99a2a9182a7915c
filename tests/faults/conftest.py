"""Fixtures of the fault tests: a fork server, an uninterrupted run for reference, and the comparison of two runs.

The default test suite runs a few trials of each kind; `pytest -m fault` runs all others.
"""

import functools
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from digitnet.checkpoints import checkpoint_format
from digitnet.environment import environment_info
from digitnet.training import run_dir
from tests.faults.child import TINY, FaultInjection, ForkServer, SendSignal

RunStoppedAt = Callable[[int], Path]
"""Return the folder of the tiny run, stopped after the given step."""


def trials(all_cases: Iterable[Any], fast: Iterable[Any]) -> list[Any]:
    """Return parameters of a test: the fast ones run by default, the others only with `-m fault`."""
    fast = list(fast)
    marked = ((case, () if case in fast else pytest.mark.fault) for case in all_cases)
    return [pytest.param(*case if isinstance(case, tuple) else (case,), marks=marks) for case, marks in marked]


@pytest.fixture(scope="session")
def reference_run(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny run, trained without an interruption."""
    folder = tmp_path_factory.mktemp("reference")
    result = fork_server.run("train", *TINY, "hydra.run.dir=out", folder=folder)
    assert result.status == 0, result.err
    return folder / "out"


@pytest.fixture(scope="session")
def reference_state(reference_run: Path) -> dict[str, Any]:
    """Return the final state of the uninterrupted run."""
    return run_state(reference_run)


@pytest.fixture
def finished_run(reference_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the uninterrupted run in the folder of the test."""
    return Path(shutil.copytree(reference_run, tmp_path / "out"))


@pytest.fixture(scope="session")
def shared_stopped_run(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> RunStoppedAt:
    """Return a function that gives the folder of the tiny run stopped after a step, and trains it at the first call.

    The tests share the folder and must not change it.
    """

    @functools.cache
    def train_and_stop(step: int) -> Path:
        folder = tmp_path_factory.mktemp(f"stopped-{step}")
        fault = stop_after_step(step)
        assert fork_server.run("train", *TINY, "hydra.run.dir=out", folder=folder, faults=[fault]).status == 143
        return folder / "out"

    return train_and_stop


@pytest.fixture
def stopped_run(shared_stopped_run: RunStoppedAt, tmp_path: Path) -> RunStoppedAt:
    """Return a function that copies a run stopped after a step to `out` in the folder of the test."""
    return lambda step: Path(shutil.copytree(shared_stopped_run(step), tmp_path / "out"))


def stop_after_step(step: int, number: int = signal.SIGTERM) -> FaultInjection:
    """Return the fault that sends a signal to the training process after a step."""
    on_batch_end = "digitnet.training.callbacks.graceful_stop:GracefulStop.on_train_batch_end"
    return FaultInjection(on_batch_end, step, SendSignal(number))


def run_state(run: Path) -> dict[str, Any]:
    """Return what a run writes except durations and its command: checkpoints, metrics.csv, curves and metrics.json."""
    checkpoints = {
        name: without_durations(checkpoint_format.load_checkpoint(run / "checkpoints" / name))
        for name in ("best.ckpt", "last.ckpt")
    }
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    curves = {
        tag: [(p.step, p.value) for p in events.Scalars(tag)]
        for tag in sorted(events.Tags()["scalars"])
        if tag != "train/throughput"
    }
    rows = [without_durations(row) for row in run_dir.read_metrics_csv(run / "metrics.csv")]
    metrics = without_durations(json.loads((run / "metrics.json").read_text()))
    return {"checkpoints": checkpoints, "curves": curves, "rows": rows, "metrics": metrics}


def without_curves(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without its curves.

    When a process is killed, TensorBoard loses the points that its writer still holds in memory. The record of a run is
    metrics.csv.
    """
    return {name: value for name, value in state.items() if name != "curves"}


def without_durations(content: Any) -> Any:
    """Return nested dicts and lists without the entries that hold a duration."""
    if isinstance(content, dict):
        # A command that resumes a run repeats the overrides in another order.
        left_out = ("seconds", "train/seconds", "test/seconds", "command")
        return {name: without_durations(value) for name, value in content.items() if name not in left_out}
    return [without_durations(value) for value in content] if isinstance(content, list | tuple) else content


def first_difference(one: Any, other: Any, path: str = "") -> str:
    """Return where two states first differ, or an empty string if they are equal bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{path}: only one of the two has the keys {one.keys() ^ other.keys()}"
        return next(filter(None, (first_difference(one[key], other[key], f"{path}/{key}") for key in one)), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return first_difference(dict(enumerate(one)), dict(enumerate(other)), path)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return "" if torch.equal(one, other) else path
    return "" if one == other else f"{path}: {one} and {other}"


def file_contents(folder: Path) -> dict[Path, bytes]:
    """Return the content of every file below a folder, by relative path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def partial_files(folder: Path) -> list[Path]:
    """Return the temporary files of unfinished writes below a folder."""
    return list(folder.rglob("*.part"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", help="write a table with the number of trials of each fault test to this file")


_REPORT = """\
# Results of the fault injection tests

This file is written by `{command}`. Each row of the table is one test, and each trial of it one combination of its
parameters: a fault, and the moment at which it is injected. By default pytest runs only a few trials of each test.

- Machine: {machine}
- Software: {software}
- Trials: {passed:,} passed, {failed:,} failed, {skipped:,} skipped

## Faults that these tests and reviews found in earlier versions

All of them are fixed:

- A run whose metric on the test images was NaN wrote metrics.json and exited with status 0.
- A typo in a key of the logger, which accepts any name, ended in a traceback.
- When a signal or a kill arrived at the end of an epoch, the curves lacked the metrics of that epoch, and metrics.csv
  its last row. A run that was killed before its first checkpoint drew its curve twice. A run that early stopping had
  ended continued to train when it was resumed.
- When two runs were started at the same time in one folder, the run that was refused had already overwritten the
  recorded configuration of the other.
- After a signal, the failure of an earlier job in the same sweep was not reported.
- Some archives were read differently by zipfile and by torch. An untrusted run folder could reach `torch.hub` through a
  logger. A truncated record of overrides was resumed as a run with default values. A configuration that had changed
  since the run began was accepted without an error.
- `compile=maybe` started training. The name of a run folder that was too long ended in status 1 instead of 2. A resume
  with fewer epochs than were already trained ended in a traceback. A line printed by Hydra preceded the error message.
- Ctrl-C in the first seconds of `digitnet-predict` printed the tracebacks of its worker processes, or had no effect
  during an import.

## Limits

SIGKILL simulates the death of a process, not a power failure. The tests of signals during `digitnet-predict` and
`digitnet-export` are in `tests/test_predict.py` and `tests/test_export.py`.

## Trials by test

| test | passed | failed | skipped |
|---|---|---|---|
{rows}
"""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not (target := config.getoption("--fault-report", None)):
        return
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            counts.setdefault(report.nodeid.partition("[")[0].removeprefix("tests/faults/"), Counter())[outcome] += 1
    rows = [f"| `{name}` | {n['passed']} | {n['failed']} | {n['skipped']} |" for name, n in sorted(counts.items())]
    total = sum(counts.values(), Counter())
    info = environment_info()
    text = _REPORT.format(
        command=f"python -m pytest -m 'fault or not fault' tests/faults --fault-report {target}",
        machine=info["machine"],
        software=", ".join(f"{name} {version}" for name, version in info["versions"].items()),
        **{outcome: total[outcome] for outcome in ("passed", "failed", "skipped")},
        rows="\n".join(rows),
    )
    Path(target).write_text(text)
