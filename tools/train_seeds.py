"""Trains one preset with several seeds, a process each, into FOLDER/SEED; run again, it goes on where it was stopped.

python benchmarks/seeds.py results/mlp_best 1,2,3,4,5 experiment=mlp_best
python benchmarks/collect.py results/mlp_best --json benchmarks/results/accuracy.json
"""

import argparse
import subprocess
import sys
from pathlib import Path


def train(folder: Path, overrides: list[str]) -> None:
    """Starts a run, or goes on with it; one that has its outcome is left alone."""
    if (folder / "metrics.json").exists():
        return
    if (folder / ".hydra" / "overrides.yaml").exists():  # begun; it may have no checkpoint yet
        overrides = [f"resume={folder}"]
    else:
        overrides = [*overrides, f"hydra.run.dir={folder}", "test=true"]
    subprocess.run([sys.executable, "-m", "digitnet.train", *overrides], check=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("seeds", help="numbers with commas between them")
    arguments.add_argument("overrides", nargs="+", help="what to train")
    chosen = arguments.parse_args()
    for seed in chosen.seeds.split(","):
        train(chosen.folder / seed, [*chosen.overrides, f"seed={seed}"])


if __name__ == "__main__":
    main()
