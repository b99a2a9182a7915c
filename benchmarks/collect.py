"""Mean and spread over the seeds of sweeps: a Markdown table, and all figures as JSON.

python -m digitnet.train -m model=mlp seed=1,2,3 test=true hydra.sweep.dir=results/mlp
python benchmarks/collect.py results/*
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def collect(sweep: Path) -> dict[str, Any]:
    runs = [json.loads(path.read_text()) for path in sorted(sweep.glob("*/metrics.json"))]
    if not runs:
        sys.exit(f"{sweep}: no finished run in it; give the folder of a sweep")
    lines = (sweep / runs_of(sweep)[0].name / ".hydra" / "overrides.yaml").read_text().splitlines()
    overrides = [line.removeprefix("- ") for line in lines if not line.startswith(("- seed=", "- test="))]
    return {"name": sweep.name, "overrides": overrides, "runs": runs}


def runs_of(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/metrics.json"))


def spread(figures: list[float], digits: int) -> str:
    mean = f"{statistics.mean(figures):.{digits}f}"
    return mean if len(figures) == 1 else f"{mean} ± {statistics.stdev(figures):.{digits}f}"


def row(sweep: dict[str, Any]) -> str:
    runs = sweep["runs"]
    cells = [
        f"`{' '.join(sweep['overrides'])}`",
        str(len(runs)),
        spread([100 * run["test/acc"] for run in runs], 2),
        spread([run["test/loss"] for run in runs], 3),
        spread([100 * run["val/acc"] for run in runs], 2),
        f"{statistics.median(run['train/seconds'] for run in runs):.0f}",
        ", ".join(sorted({run["machine"] for run in runs})),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    sweeps = [collect(Path(folder)) for folder in sys.argv[1:]]
    head = ["what", "n", "test accuracy %", "test loss", "val accuracy %", "seconds", "machine"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for sweep in sweeps:
        print(row(sweep))
    Path("results.json").write_text(json.dumps(sweeps, indent=1) + "\n")


if __name__ == "__main__":
    main()
