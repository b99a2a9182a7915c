"""Measure a run of one process, and of two started by each launcher: an epoch, the whole command, and memory.

python benchmarks/launchers.py               writes benchmarks/results/launchers.json

srun is measured if a SLURM cluster with two free CPUs answers. Each process has one thread.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

from digitnet.training.run_dir import read_metrics_csv

TRAIN = ("-m", "digitnet.train")
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
MIB_PER_UNIT = 2**-10 if sys.platform == "linux" else 2**-20  # Linux reports the peak in KiB, macOS in bytes

Cost = dict[str, float]


def launchers() -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """Return the words that start the command, and the overrides, of each case."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    cases: dict[str, tuple[list[str], tuple[str, ...]]] = {
        "1_process": ([sys.executable], ()),
        "2_processes_lightning": ([sys.executable], TWO),
        "2_processes_torchrun": (torchrun, TWO),
    }
    if shutil.which("srun") and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
        srun = ["srun", "--nodes=1", "--ntasks-per-node=2", "--kill-on-bad-exit=1", sys.executable]
        cases["2_processes_srun"] = (srun, TWO)
    return cases


def measure(words: list[str], overrides: tuple[str, ...]) -> Cost:
    """Train for two epochs, and return the seconds of the second one, of the command, and the peak memory in MiB.

    The memory is that of the largest process; with srun, which starts processes elsewhere, it is not measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        fixed = ("trainer.max_epochs=2", "trainer.accelerator=cpu", "data.val_size=0", "test=false")
        command = [*words, *TRAIN, *fixed, *overrides, f"hydra.run.dir={run_dir}"]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        first, second = (row["seconds"] for row in read_metrics_csv(run_dir / "metrics.csv"))
    cost = {"epoch_seconds": second - first, "command_seconds": seconds}
    return cost if words[0] == "srun" else cost | {"mib": usage.ru_maxrss * MIB_PER_UNIT}


def median_cost(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "launchers.json", repeats=3)
    harness.add_train_size(parser, harness.FULL_TRAINING_SET)
    arguments = parser.parse_args()
    size = f"data.train_size={arguments.train_size}"
    costs = {}
    for model in ("cnn", "mlp"):
        rounds: dict[str, list[Cost]] = {name: [] for name in launchers()}
        for _ in range(arguments.repeats):
            for name, (words, overrides) in launchers().items():
                rounds[name].append(measure(words, (f"model={model}", size, *overrides)))
        costs[model] = {name: median_cost(measured) for name, measured in rounds.items()}
        rows: list[tuple[object, ...]] = [
            (
                name.replace("_", " "),
                cost["epoch_seconds"],
                cost["command_seconds"],
                f"{cost.get('mib', float('nan')):.0f}",
                f"{costs[model]['1_process']['epoch_seconds'] / cost['epoch_seconds'] / int(name[0]):.0%}",
            )
            for name, cost in costs[model].items()
        ]
        harness.print_table(f"model={model} | epoch, s | command, s | memory, MiB | efficiency", rows)
    harness.write_result(arguments.output, {"repeats": arguments.repeats, "costs": costs})


if __name__ == "__main__":
    main()
