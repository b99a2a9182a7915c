"""What the fault tests share: a fork server, a run that nothing disturbed, and what two runs are compared by.

A few trials of each kind belong to the default suite; `pytest -m fault` runs all.
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
from tests.faults.child import TINY, Forks, Sabotage, Send

Stopped = Callable[[int], Path]


def trials(everything: Iterable[Any], fast: Iterable[Any]) -> list[Any]:
    """Parameters of a test: the fast ones run always, the others with `-m fault`."""
    fast = list(fast)
    marked = ((trial, () if trial in fast else pytest.mark.fault) for trial in everything)
    return [pytest.param(*trial if isinstance(trial, tuple) else (trial,), marks=marks) for trial, marks in marked]


@pytest.fixture(scope="session")
def undisturbed(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = forks.run("train", *TINY, "hydra.run.dir=out", folder=folder)
    assert done.status == 0, done.err
    return folder / "out"


@pytest.fixture(scope="session")
def whole(undisturbed: Path) -> dict[str, Any]:
    """The state at its end."""
    return state(undisturbed)


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it for the test."""
    return Path(shutil.copytree(undisturbed, tmp_path / "out"))


@pytest.fixture(scope="session")
def stopped_once(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """The folder of the tiny run after a step, stopped there the first time it is asked for."""

    @functools.cache
    def stopped_once(step: int) -> Path:
        folder = tmp_path_factory.mktemp(f"stopped-{step}")
        assert forks.run("train", *TINY, "hydra.run.dir=out", folder=folder, sabotages=[stop_at(step)]).status == 143
        return folder / "out"

    return stopped_once


@pytest.fixture
def stopped(stopped_once: Stopped, tmp_path: Path) -> Stopped:
    """Puts a copy of it into the test's folder."""
    return lambda step: Path(shutil.copytree(stopped_once(step), tmp_path / "out"))


def stop_at(step: int, number: int = signal.SIGTERM) -> Sabotage:
    return Sabotage("digitnet.training.callbacks.graceful_stop:GracefulStop.on_train_batch_end", step, Send(number))


def state(run: Path) -> dict[str, Any]:
    """All that a run leaves but its times: checkpoints entire, the table, the curves, the outcome."""
    files = {
        name: timeless(checkpoint_format.load_checkpoint(run / "checkpoints" / name))
        for name in ("best.ckpt", "last.ckpt")
    }
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    curves = {tag: [(p.step, p.value) for p in events.Scalars(tag)] for tag in sorted(events.Tags()["scalars"])}
    rows = [timeless(row) for row in run_dir.read_metrics_csv(run / "metrics.csv")]
    outcome = timeless(json.loads((run / "metrics.json").read_text()))
    return {"checkpoints": files, "curves": curves, "rows": rows, "outcome": outcome}


def without_curves(state: dict[str, Any]) -> dict[str, Any]:
    """A kill takes along what TensorBoard's writer has not yet written; metrics.csv is the record."""
    return {name: part for name, part in state.items() if name != "curves"}


def timeless(content: Any) -> Any:
    if isinstance(content, dict):
        clocks = ("seconds", "train/seconds", "test/seconds")
        return {name: timeless(part) for name, part in content.items() if name not in clocks}
    return [timeless(part) for part in content] if isinstance(content, list | tuple) else content


def difference(one: Any, other: Any, path: str = "") -> str:
    """Where two states first differ; empty if every bit is the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{path}: keys {one.keys() ^ other.keys()}"
        return next(filter(None, (difference(one[key], other[key], f"{path}/{key}") for key in one)), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return difference(dict(enumerate(one)), dict(enumerate(other)), path)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return "" if torch.equal(one, other) else path
    return "" if one == other else f"{path}: {one} and {other}"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", help="write a table of the trials to this file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not (target := config.getoption("--fault-report", None)):
        return
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            counts.setdefault(report.nodeid.partition("[")[0].removeprefix("tests/faults/"), Counter())[outcome] += 1
    rows = [f"| `{name}` | {n['passed']} | {n['failed']} | {n['skipped']} |" for name, n in sorted(counts.items())]
    facts = environment_info()
    machine = ", ".join([facts["machine"], *(f"{name} {version}" for name, version in facts["versions"].items())])
    head = ["| test | passed | failed | skipped |", "|---|---|---|---|"]
    command = f"`python -m pytest -m 'fault or not fault' tests/faults --fault-report {target}`"
    Path(target).write_text("\n".join([f"{command}, {machine}.", "", *head, *rows, ""]))
