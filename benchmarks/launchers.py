"""Measure a run of one process, and of two started by each launcher: an epoch, the whole command, and memory.

python benchmarks/launchers.py               writes benchmarks/results/launchers.json, in eight minutes on two cores

srun is measured if a SLURM cluster with two free CPUs answers. Each process has one thread.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import lightning as L

from digitnet.training.run_dir import read_metrics_csv

IMAGES = {"cnn": 10_000, "mlp": 60_000}  # so that an epoch takes seconds
EPOCHS = 3
TRAIN = ("-m", "digitnet.train")
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
MIB_PER_UNIT = 2**-10 if sys.platform == "linux" else 2**-20  # Linux reports the peak in KiB, macOS in bytes

Cost = dict[str, float]


class PeakMemory(L.Callback):
    """Write the peak memory of each process at the end of the training to a file in the current folder."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MIB_PER_UNIT
        Path(f"mib_{trainer.global_rank}").write_text(str(peak))


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
    """Train, and return the seconds of an epoch after the first, those of the command, and the memory of all processes.

    Each process is counted with all that it has mapped, so what the processes share is counted in each.
    """
    with tempfile.TemporaryDirectory() as folder:
        fixed = (f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu", "data.val_size=0", "test=false")
        memory = "trainer.callbacks=[{_target_: launchers.PeakMemory}]"
        command = [*words, *TRAIN, *fixed, *overrides, memory, "plots=false", "hydra.run.dir=run"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
        first, *_, last = (row["seconds"] for row in read_metrics_csv(Path(folder) / "run" / "metrics.csv"))
        mib = sum(float(path.read_text()) for path in Path(folder).glob("mib_*"))
    return {"epoch_seconds": (last - first) / (EPOCHS - 1), "command_seconds": seconds, "mib": mib}


def median_cost(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def main() -> None:
    parser = harness.benchmark_parser(__doc__, "launchers.json", repeats=3)
    harness.add_train_size(parser, None)
    arguments = parser.parse_args()
    costs: dict[str, dict[str, Cost]] = {}
    for model, images in IMAGES.items():
        size = f"data.train_size={arguments.train_size or images}"
        rounds: dict[str, list[Cost]] = {name: [] for name in launchers()}
        for _ in range(arguments.repeats):
            for name, (words, overrides) in launchers().items():
                rounds[name].append(measure(words, (f"model={model}", size, *overrides)))
        costs[model] = {name: median_cost(measured) for name, measured in rounds.items()}
        one = costs[model]["1_process"]["epoch_seconds"]
        for name, cost in costs[model].items():
            cost["efficiency"] = one / cost["epoch_seconds"] / int(name[0])
        rows: list[tuple[object, ...]] = [
            (
                name.replace("_", " "),
                cost["epoch_seconds"],
                cost["command_seconds"],
                f"{cost['mib']:.0f}",
                f"{cost['efficiency']:.0%}",
            )
            for name, cost in costs[model].items()
        ]
        harness.print_table(f"model={model} | epoch, s | command, s | memory, MiB | efficiency", rows)
    sizes = {"repeats": arguments.repeats, "images": IMAGES, "epochs": EPOCHS}
    harness.write_result(arguments.output, sizes | {"costs": costs})


if __name__ == "__main__":
    main()
