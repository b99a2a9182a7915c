"""Compare finished runs: `python -m digitnet.report RUN_OR_SWEEP... -o report.html`."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from digitnet.cli import argparse_app
from digitnet.errors import UsageError

if TYPE_CHECKING:
    from digitnet.analysis.report import Report

# Modules that need numpy and scipy are imported where they are used, so that `--help` does not wait for them.


def main() -> None:
    """Run the command line of `digitnet-report`."""
    argparse_app.run_command(build_parser(), command)


def build_parser() -> argparse_app.CliParser:
    """Return the parser of the command line."""
    parser = argparse_app.CliParser(
        prog="digitnet-report",
        description="Compare finished runs. Runs that differ only by their seed are one group.",
        details="Each group is compared with the baseline. Without an output option the table is only printed.",
        examples={
            "logs/sweeps/SWEEP -o report.html": "a sweep as one page",
            "logs/cnn logs/mlp --baseline MLP": "two groups of runs",
            "RUN_DIR --markdown table.md": "a table to paste",
        },
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="RUN_OR_SWEEP",
        help="a run folder, or a folder that holds some: a sweep, a study",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write one HTML file, to open offline")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures at full precision")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table and the comparisons")
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="group to compare with, or a part of its name",
    )
    parser.add_argument("--test", action="store_true", help="score runs on the test images where that is missing")
    parser.add_argument("--force", action="store_true", help="replace output files that exist")
    return parser


def command(options: Namespace) -> None:
    """Check the output files, build the report, then write and print it."""
    outputs = {name: getattr(options, name) for name in ("output", "json", "csv", "markdown")}
    outputs = {name: path for name, path in outputs.items() if path is not None}
    validate_outputs(outputs, options.force)

    from digitnet.analysis.report import build_report
    from digitnet.analysis.tables import print_report
    from digitnet.checkpoints.atomic import atomic_write
    from digitnet.training.finished_runs import choose_split, complete_runs, find_run_dirs, read_run

    run_dirs, notes = find_run_dirs(options.paths)
    runs = [read_run(run_dir) for run_dir in run_dirs]
    split = choose_split(runs, options.test)
    runs, missing = complete_runs(runs, split, options.test)
    report = build_report(runs, split, options.baseline, [*notes, *missing])
    contents = {path: render(name)(report).encode() for name, path in outputs.items()}
    print_report(report)
    for path, content in contents.items():
        atomic_write(path, content)
        print(f"written: {path}")


def render(name: str) -> "Callable[[Report], str]":
    """Return the function that renders a report for an output option."""
    from digitnet.analysis import tables
    from digitnet.analysis.html.page import to_html
    from digitnet.analysis.report import Report

    return {"output": to_html, "json": Report.to_json, "csv": tables.to_csv, "markdown": tables.to_markdown}[name]


def validate_outputs(outputs: dict[str, Path], force: bool) -> None:
    """Raise UsageError unless each output file can be written.

    Args:
        outputs: The files by the name of their option.
        force: Whether a file may be replaced.

    Raises:
        UsageError: If a file exists and may not be replaced, is a folder, is given twice, or cannot be written.
    """
    from digitnet.checkpoints.atomic import check_writable

    for name, path in outputs.items():
        if path.is_dir() or (path.exists() and not force):
            remedy = "choose another name" if path.is_dir() else "choose another name, or replace it with --force"
            raise UsageError(f"--{name}={path}: exists; {remedy}")
        if list(outputs.values()).count(path) > 1:
            raise UsageError(f"--{name}={path}: given for two outputs; choose another name")
        check_writable(path.parent, f"--{name}")


if __name__ == "__main__":
    main()
