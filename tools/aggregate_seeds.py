"""Mean and spread over the seeds of sweeps: a Markdown table to standard output, and every figure as JSON.

What the file holds of other sweeps stays.

python -m digitnet.train -m model=mlp seed=1,2,3 test=true hydra.sweep.dir=results/mlp
python benchmarks/collect.py results/* --json benchmarks/results/accuracy.json
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from scipy.stats import t

from digitnet.training.recording import read_csv

HEAD = "what | n | test accuracy % | 95 % interval | test loss | val accuracy % | epochs × seconds each | threads"


def collect(sweep: Path) -> dict[str, Any]:
    """The overrides that all runs of a sweep share, and what each run ended with."""
    folders = sorted(path.parent for path in sweep.glob("*/metrics.json"))
    overrides = [str(line).lstrip("+") for line in OmegaConf.load(folders[0] / ".hydra" / "overrides.yaml")]
    shared = [override for override in overrides if not override.startswith(("seed=", "test=", "resume=", "hydra."))]
    return {"overrides": shared, "runs": [outcome(folder) for folder in folders]}


def outcome(folder: Path) -> dict[str, Any]:
    ends = [row["seconds"] for row in read_csv(folder / "metrics.csv")]
    # The median, for a machine is not always left alone for as long as a run takes.
    epoch = statistics.median(end - start for start, end in zip([0.0, *ends], ends, strict=False))
    return json.loads((folder / "metrics.json").read_text()) | {"epochs": len(ends), "seconds an epoch": epoch}


def spread(figures: list[float], digits: int) -> str:
    mean = f"{statistics.mean(figures):.{digits}f}"
    return mean if len(figures) == 1 else f"{mean} ± {statistics.stdev(figures):.{digits}f}"


def interval(figures: list[float]) -> str:
    """Where the mean over all possible seeds lies, if their percentages are normally distributed."""
    if len(figures) < 2:
        return "–"
    half = t.ppf(0.975, len(figures) - 1) * statistics.stdev(figures) / len(figures) ** 0.5
    return f"{statistics.mean(figures) - half:.2f}–{min(statistics.mean(figures) + half, 100):.2f}"


def row(sweep: dict[str, Any]) -> str:
    runs = sweep["runs"]
    accuracies = [100 * run["test/acc"] for run in runs]
    validated = [100 * run["val/acc"] for run in runs if "val/acc" in run]
    cells = [
        f"`{' '.join(sweep['overrides'])}`",
        str(len(runs)),
        spread(accuracies, 2),
        interval(accuracies),
        spread([run["test/loss"] for run in runs], 3),
        spread(validated, 2) if validated else "–",
        f"{runs[0]['epochs']} × {statistics.median(run['seconds an epoch'] for run in runs):.1f}",
        ", ".join(sorted({run["machine"].partition(", ")[2].partition(" ")[0] for run in runs})),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("sweeps", nargs="+", type=Path, help="folders of finished sweeps over seed")
    arguments.add_argument("--json", type=Path, required=True)
    chosen = arguments.parse_args()
    kept = json.loads(chosen.json.read_text()) if chosen.json.exists() else []
    sweeps = {tuple(sweep["overrides"]): sweep for sweep in [*kept, *map(collect, chosen.sweeps)]}
    print(f"| {HEAD} |\n|{'---|' * len(HEAD.split(' | '))}")
    print("\n".join(map(row, sweeps.values())))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps([*sweeps.values()], indent=1) + "\n")


if __name__ == "__main__":
    main()
