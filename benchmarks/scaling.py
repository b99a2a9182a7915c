"""How the time of an epoch grows with the batch, the data and the processes, and how much memory it takes.

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

import measure

from digitnet.training.recording import read_csv

BATCHES = (64, 128, 256, 512, 1024, 2048)
SHARES = (0.1, 0.25, 0.5, 1.0)
TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


@dataclass
class Cost:
    """The second of two epochs, and the most memory that the (first) process took."""

    seconds: float
    mib: float


def train(model: str, threads: int, *overrides: str) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        fixed = [
            f"model={model}",
            "trainer.max_epochs=2",
            "data.val_size=0",
            "test=false",
            f"hydra.run.dir={folder}/run",
        ]
        command = [sys.executable, "-m", "digitnet.train", *fixed, *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        first, second = (row["seconds"] for row in read_csv(Path(folder) / "run" / "metrics.csv"))
    return Cost(second - first, usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in seconds]).slope


def measure_model(model: str, images: int, repeats: int) -> dict[str, Cost]:
    """Medians over the repeats, by case."""
    whole = f"data.train_size={images}"
    cases = {f"batch {size}": (2, whole, f"data.batch_size={size}") for size in BATCHES}
    cases |= {f"{share:.0%} of the data": (2, f"data.train_size={round(images * share)}") for share in SHARES}
    cases |= {"1 process, 1 thread": (1, whole), "2 processes, 1 thread each": (1, whole, *TWO)}
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            costs[name].append(train(model, *case))
    return {
        name: Cost(statistics.median(cost.seconds for cost in each), statistics.median(cost.mib for cost in each))
        for name, each in costs.items()
    }


def main() -> None:
    parser = measure.arguments(__doc__, "scaling.json", repeats=3)
    parser.add_argument("--train-size", type=int, default=60_000, help="fewer images, to try the command")
    chosen = parser.parse_args()
    found = {model: measure_model(model, chosen.train_size, chosen.repeats) for model in ("cnn", "mlp")}
    rows = [
        (name, *(f"{costs[name].seconds:.1f} s, {costs[name].mib:.0f} MiB" for costs in found.values()))
        for name in found["cnn"]
    ]
    for model, costs in found.items():
        slope = exponent(SHARES, [costs[f"{share:.0%} of the data"].seconds for share in SHARES])
        efficiency = costs["1 process, 1 thread"].seconds / costs["2 processes, 1 thread each"].seconds / 2
        rows.append((f"{model}: time grows as data to the power", f"{slope:.2f}", ""))
        rows.append((f"{model}: efficiency of two processes", f"{efficiency:.0%}", ""))
    measure.show("an epoch, 2 threads unless said | model=cnn | model=mlp", rows)
    outcome = {model: {name: vars(cost) for name, cost in costs.items()} for model, costs in found.items()}
    measure.write(chosen.output, {"repeats": chosen.repeats, "costs": outcome})


if __name__ == "__main__":
    main()
