"""Measure the trials per hour of a sweep with one and two workers, against as many runs of `digitnet.train`.

    python benchmarks/sweep.py                   writes benchmarks/results/sweep.json, in seven minutes on two cores

All trials have the same settings, so that they take the same time. Every process has one thread.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import harness

LABELS = {
    "one_worker_vs_plain_runs": "a sweep with one worker ÷ the same runs one after another",
    "two_workers_vs_one_worker": "two workers ÷ one worker",
}


def run_processes(commands: list[list[str]]) -> None:
    """Run commands at the same time, each with one thread, until all have ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) for command in commands]
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise SystemExit("a process has failed")


def time_plain_runs(overrides: list[str], count: int) -> float:
    """Return the seconds of runs one after another, each in a process of its own, without the test images."""
    with tempfile.TemporaryDirectory() as folder:
        commands = [harness.train_command(f"{folder}/{number}", *overrides, "test=false") for number in range(count)]
        return sum(harness.time_call(partial(run_processes, [command])) for command in commands)


def time_sweep(overrides: list[str], count: int, workers: int) -> float:
    """Return the seconds until all workers of a new study have ended."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"study={Path(folder) / 'study'}", f"trials={count}", "pruner=none", "optimizer.lr=choice(2e-3)"]
        command = [sys.executable, "-m", "digitnet.sweep", *options, *overrides]
        return harness.time_call(partial(run_processes, [command] * workers))


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "sweep.json", repeats=3)
    parser.add_argument("--trials", type=int, default=6, help="runs of each case (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each run (default: %(default)s)")
    harness.add_train_size(parser, 20_000)
    arguments = parser.parse_args()
    size = f"data.train_size={arguments.train_size}"
    overrides = ["model=mlp", f"trainer.max_epochs={arguments.epochs}", size, "plots=false"]
    cases = {
        "plain_runs": partial(time_plain_runs, overrides, arguments.trials),
        "one_worker": partial(time_sweep, overrides, arguments.trials, 1),
        "two_workers": partial(time_sweep, overrides, arguments.trials, 2),
    }
    seconds = harness.time_interleaved(cases, arguments.repeats)
    ratios = {name: harness.median_ratio(seconds, *name.split("_vs_")) for name in LABELS}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    per_hour = {name: 3600 * arguments.trials / median for name, median in medians.items()}
    overhead = (medians["one_worker"] - medians["plain_runs"]) / arguments.trials
    harness.print_table("time, of the same trials | ratio", [(LABELS[name], ratio) for name, ratio in ratios.items()])
    print(f"a trial of one worker takes {overhead:+.1f} s against a plain run")
    print({name: round(count) for name, count in per_hour.items()}, "trials per hour")
    result = {"median_ratios": ratios, "trials_per_hour": per_hour, "overhead_seconds_per_trial": overhead}
    sizes = {"trials": arguments.trials, "epochs": arguments.epochs, "images": arguments.train_size}
    harness.write_result(arguments.output, result | sizes | {"seconds": seconds})


if __name__ == "__main__":
    main()
