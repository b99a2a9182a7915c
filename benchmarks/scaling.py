"""Measure how the time of an epoch grows with the batch size, the data and the processes, and how much memory it takes.

python benchmarks/scaling.py                 writes benchmarks/results/scaling.json
"""

import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import harness

from digitnet.training.run_dir import read_metrics_csv

MODELS = ("cnn", "mlp")
BATCH_SIZES = (64, 128, 256, 512, 1024, 2048)
DATA_PERCENTS = (10, 25, 50, 100)
TWO_PROCESSES = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")
KIB, MIB = 2**10, 2**20

Case = tuple[int, tuple[str, ...]]


@dataclass
class Cost:
    """What an epoch costs."""

    seconds: float
    """Seconds of the second of two epochs."""

    mib: float
    """Peak memory of the process (with two processes, of the first) in MiB."""


def train(model: str, threads: int, overrides: tuple[str, ...]) -> Cost:
    """Train for two epochs in a process of its own and return what the second epoch cost."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        fixed = (f"model={model}", "trainer.max_epochs=2", "data.val_size=0", "test=false")
        command = harness.train_command(run_dir, *fixed, *overrides)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        first, second = (row["seconds"] for row in read_metrics_csv(run_dir / "metrics.csv"))
    # Linux reports the peak in KiB, macOS in bytes.
    return Cost(second - first, usage.ru_maxrss / (MIB // KIB if sys.platform == "linux" else MIB))


def loglog_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent k of seconds = c · sizes**k, fitted by least squares to the logarithms."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in seconds]).slope


def make_cases(images: int) -> dict[str, Case]:
    """Return the threads and the overrides of each case, by the key in the result file."""
    all_images = f"data.train_size={images}"
    cases: dict[str, Case] = {f"batch_{size}": (2, (all_images, f"data.batch_size={size}")) for size in BATCH_SIZES}
    for percent in DATA_PERCENTS:
        cases[f"data_{percent}_percent"] = (2, (f"data.train_size={round(images * percent / 100)}",))
    cases["1_process_1_thread"] = (1, (all_images,))
    cases["2_processes_1_thread_each"] = (1, (all_images, *TWO_PROCESSES))
    return cases


def measure_model(model: str, images: int, repeats: int) -> dict[str, Cost]:
    """Return the medians of all repeats, by case."""
    cases = make_cases(images)
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (threads, overrides) in cases.items():
            costs[name].append(train(model, threads, overrides))
    return {
        name: Cost(statistics.median(cost.seconds for cost in runs), statistics.median(cost.mib for cost in runs))
        for name, runs in costs.items()
    }


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "scaling.json", repeats=3)
    harness.add_train_size(parser, harness.FULL_TRAINING_SET)
    arguments = parser.parse_args()
    costs = {model: measure_model(model, arguments.train_size, arguments.repeats) for model in MODELS}
    rows: list[tuple[str, ...]] = [
        (
            name.replace("_", " "),
            *(f"{costs[model][name].seconds:.1f} s, {costs[model][name].mib:.0f} MiB" for model in MODELS),
        )
        for name in costs[MODELS[0]]
    ]
    for model, cases in costs.items():
        slope = loglog_slope(DATA_PERCENTS, [cases[f"data_{percent}_percent"].seconds for percent in DATA_PERCENTS])
        efficiency = cases["1_process_1_thread"].seconds / cases["2_processes_1_thread_each"].seconds / 2
        rows.append((f"{model}: time grows as data to the power", f"{slope:.2f}", ""))
        rows.append((f"{model}: efficiency of two processes", f"{efficiency:.0%}", ""))
    harness.print_table("an epoch, 2 threads unless stated | model=cnn | model=mlp", rows)
    result = {model: {name: vars(cost) for name, cost in cases.items()} for model, cases in costs.items()}
    harness.write_result(arguments.output, {"repeats": arguments.repeats, "costs": result})


if __name__ == "__main__":
    main()
