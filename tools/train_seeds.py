"""Train one preset with several seeds, one process each, into FOLDER/SEED; a repeated call resumes interrupted runs.

    python -m tools.train_seeds results/mlp_best 1,2,3,4,5 experiment=mlp_best
    python -m tools.aggregate_seeds results/mlp_best --json benchmarks/results/accuracy.json

Each run folder is that of `python -m digitnet.train`, and the test images are scored at the end of each run.
"""

import argparse
import subprocess
import sys
from pathlib import Path


def train(run_dir: Path, overrides: list[str]) -> None:
    """Start a run or resume it; leave a finished run alone."""
    if (run_dir / "metrics.json").exists():
        return
    if (run_dir / ".hydra" / "overrides.yaml").exists():  # it was started, but it may have no checkpoint yet
        overrides = [f"resume={run_dir}"]
    else:
        overrides = [*overrides, f"hydra.run.dir={run_dir}", "test=true"]
    subprocess.run([sys.executable, "-m", "digitnet.train", *overrides], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the run folders")
    parser.add_argument("seeds", help="numbers, separated by commas")
    parser.add_argument("overrides", nargs="+", help="overrides of digitnet.train, for example experiment=mlp_best")
    arguments = parser.parse_args()
    for seed in arguments.seeds.split(","):
        train(arguments.folder / seed, [*arguments.overrides, f"seed={seed}"])


if __name__ == "__main__":
    main()
