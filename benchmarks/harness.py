"""Functions that the benchmarks share: the command line, timing, training runs, ratios, tables and the result file.

This module measures nothing by itself. Each benchmark is a script of its own; see benchmarks/README.md.
"""

import argparse
import contextlib
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from omegaconf import DictConfig

from digitnet.data import mnist
from digitnet.environment import environment_info
from digitnet.training.build import build_run

RESULTS_DIR = Path(__file__).parent / "results"
FULL_TRAINING_SET = 60_000

Seconds = dict[str, list[float]]


def benchmark_parser(doc: str | None, result_file: str, repeats: int) -> argparse.ArgumentParser:
    """Create the command-line parser of a benchmark, with the options `--repeats` and `--output`.

    Args:
        doc: The docstring of the script. Its first paragraph becomes the description in the help text.
        result_file: Name of the result file in `benchmarks/results`, the default of `--output`.
        repeats: Default of `--repeats`.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="measurements of each case (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS_DIR / result_file, help="JSON file to write")
    return parser


def add_train_size(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Add the option `--train-size`, which makes a trial of the benchmark short.

    Args:
        parser: The parser of the benchmark.
        default: Number of training images of the real measurement; None leaves the number to the configuration.
    """
    parser.add_argument("--train-size", type=int, default=default, help="train on fewer images to try the benchmark")


def time_call(call: Callable[[], object]) -> float:
    """Return the seconds that one call takes.

    Args:
        call: The function to call, without arguments.
    """
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_interleaved(cases: Mapping[str, Callable[[], float]], repeats: int) -> Seconds:
    """Measure all cases in turn, `repeats` times, so that a slow minute of the machine affects every case.

    The standard output of the cases is discarded.

    Args:
        cases: Functions that measure themselves and return seconds, by name.
        repeats: Number of rounds.

    Returns:
        The seconds of each case, in the order of the rounds.
    """
    seconds: Seconds = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            with Path(os.devnull).open("w") as devnull, contextlib.redirect_stdout(devnull):
                seconds[name].append(case())
    return seconds


def median_ratio(seconds: Seconds, numerator: str, denominator: str) -> float:
    """Return the median of the ratios of two cases, where each ratio is of the same round.

    Args:
        seconds: The result of `time_interleaved`.
        numerator: Name of the case to divide.
        denominator: Name of the case to divide by.
    """
    return statistics.median(a / b for a, b in zip(seconds[numerator], seconds[denominator], strict=True))


def print_table(header: str, rows: list[tuple[Any, ...]]) -> None:
    """Print a Markdown table.

    Args:
        header: The column titles, separated by " | ".
        rows: The cells of each row. Floats are printed with two decimals.
    """
    print(f"| {header} |\n|{'---|' * len(header.split(' | '))}")
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write the result of a benchmark as JSON, together with the versions of the packages and the machine.

    Args:
        path: The file to write. Missing parent directories are created.
        result: What the benchmark measured. Keys are in snake_case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | environment_info(), indent=1) + "\n")


def compose_train_config(*overrides: str, run_dir: str | Path = "unused") -> DictConfig:
    """Compose the configuration of `python -m digitnet.train`.

    Args:
        *overrides: Hydra overrides, for example "model=mlp".
        run_dir: The run directory. The default is for callers that do not train through the Trainer.
    """
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        return hydra.compose("train", [f"run_dir={run_dir}", *overrides])


def train_command(run_dir: str | Path, *overrides: str) -> list[str]:
    """Return the command that trains in a process of its own, for `subprocess`.

    Args:
        run_dir: The run directory.
        *overrides: Hydra overrides, for example "model=mlp".
    """
    return [sys.executable, "-m", "digitnet.train", *overrides, f"hydra.run.dir={run_dir}"]


def time_trainer_epoch(*overrides: str, epochs: int) -> float:
    """Train in this process, as `python -m digitnet.train` does on the CPU, and return the mean seconds per epoch.

    The first epoch is left out, because it contains the warm-up of torch and of the caches.

    Args:
        *overrides: Hydra overrides, for example "model=mlp".
        epochs: Number of epochs to train, at least 2.
    """
    fixed = (f"trainer.max_epochs={epochs}", "++trainer.accelerator=cpu", "++trainer.enable_progress_bar=true")
    with tempfile.TemporaryDirectory() as run_dir:
        run = build_run(compose_train_config(*fixed, *overrides, run_dir=run_dir))
        run.trainer.fit(run.model, run.data)
    ends = [record["seconds"] for record in run.epoch_log.history]
    return (ends[-1] - ends[0]) / (epochs - 1)


def unpack_mnist(root: Path) -> Path:
    """Decompress the bundled MNIST files into the layout that torchvision reads.

    Args:
        root: The directory to write into.

    Returns:
        The directory that holds the four IDX files, `root/MNIST/raw`.
    """
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(mnist.__file__).parent / "files").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return raw


class StopAfterFirstStep(L.Callback):
    """Print the time and end the process as soon as the first training step is done."""

    def on_train_batch_end(self, *_: Any) -> None:
        print(time.time(), flush=True)
        os._exit(0)
