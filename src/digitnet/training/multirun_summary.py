"""Prints the table of all runs that one command with `-m` has started, best first."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitnet.training.resume_overrides import read_overrides
from digitnet.training.run_dir import FINAL_METRICS, RunResult, metrics_json

_MIN_WIDTH = 120  # columns, where the output is not a terminal


@dataclass(frozen=True)
class _Job:
    """A run of a sweep."""

    run_dir: Path
    """Its folder."""
    overrides: dict[str, str]
    """The values that were typed, by key."""
    result: RunResult | None
    """The content of its metrics.json; None if the run has not finished."""


def print_multirun_summary(sweep_dir: Path) -> None:
    """Print one table of the runs in the folder of a sweep, with the overrides in which they differ.

    The run with the highest `val/acc` is the first. Runs without it, such as those that failed, come last, in the order
    of their numbers. The test images choose nothing, so `test/acc` does not count.

    Args:
        sweep_dir: The folder. Nothing is printed if it holds less than two runs.
    """
    jobs = _read_jobs(sweep_dir)
    if len(jobs) < 2:
        return
    jobs.sort(key=lambda job: (job.result or {}).get("val/acc", -1), reverse=True)  # stable
    keys = [key for key in _all_keys(jobs) if len({job.overrides.get(key) for job in jobs}) > 1]
    metrics = [name for name in FINAL_METRICS if any(name in (job.result or {}) for job in jobs)]
    # Rich would take brackets in a plain string for markup.
    title = Text(f"{len(jobs)} runs in {os.path.relpath(sweep_dir)}", style="table.title")
    table = Table(title=title, title_justify="left")
    for name in (*keys, *metrics, "run"):
        table.add_column(Text(name))
    for job in jobs:
        values = [job.overrides.get(key, "") for key in keys]
        table.add_row(*map(Text, [*values, *_format_metrics(job.result, metrics), job.run_dir.name]))
    console = Console()
    console.print(table, width=None if console.is_terminal else max(console.width, _MIN_WIDTH))
    if "val/acc" in (jobs[0].result or {}):
        print(f"highest val/acc: {os.path.relpath(jobs[0].run_dir)}")


def _read_jobs(sweep_dir: Path) -> list[_Job]:
    """Read the runs of a sweep in the order of their numbers; a run that failed before it started is left out."""
    folders = [path.parents[1] for path in sweep_dir.glob("*/.hydra/overrides.yaml")]
    folders.sort(key=lambda path: (len(path.name), path.name))
    jobs = []
    for run_dir in folders:
        pairs = [line.lstrip("+").partition("=") for line in read_overrides(run_dir, "hydra.sweep.dir")]
        jobs.append(_Job(run_dir, {key: value for key, _, value in pairs}, _read_result(run_dir)))
    return jobs


def _read_result(run_dir: Path) -> RunResult | None:
    try:
        result: RunResult = json.loads(metrics_json(run_dir).read_text())
    except (OSError, ValueError):  # the run failed or was stopped
        return None
    return result


def _all_keys(jobs: list[_Job]) -> list[str]:
    return list(dict.fromkeys(key for job in jobs for key in job.overrides))


def _format_metrics(result: RunResult | None, names: list[str]) -> list[str]:
    """Return the cells of a run: accuracies in per cent, losses with four decimals."""
    if result is None:
        return ["not finished", *[""] * (len(names) - 1)] if names else []
    return [_format_metric(name, result.get(name)) for name in names]


def _format_metric(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2%}" if name.endswith("acc") else f"{value:.4f}"
