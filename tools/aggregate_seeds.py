"""Print mean and spread over the seeds of finished sweeps as a Markdown table, and write all metrics as JSON.

    python -m digitnet.train -m model=mlp seed=1,2,3 test=true hydra.sweep.dir=results/mlp
    python -m tools.aggregate_seeds results/* --json benchmarks/results/accuracy.json

Sweeps that the JSON file already holds stay in it, and in the table, unless they are aggregated again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from scipy.stats import t

from digitnet.training.finished_runs import describe_mixture
from digitnet.training.run_dir import read_metrics_csv

HEADER = "what | n | test accuracy % | 95 % interval | test loss | val accuracy % | epochs × seconds each | threads"
PER_RUN_OVERRIDES = ("seed=", "test=", "resume=", "hydra.")  # prefixes of what differs between the runs of a sweep
CONFIDENCE = 0.95
MISSING = "–"


def aggregate_sweep(sweep: Path) -> dict[str, Any]:
    """Collect the runs of a sweep.

    Args:
        sweep: The folder of the run folders. Runs without `metrics.json` are left out.

    Returns:
        `overrides`, those that all runs share, and `runs`, the metrics of each run.

    Raises:
        SystemExit: If no run is finished, or if the runs differ by more than their seed.
    """
    run_dirs = sorted(path.parent for path in sweep.glob("*/metrics.json"))
    if not run_dirs:
        raise SystemExit(f"{sweep}: no finished run there; give the folder of a finished sweep")
    if mixture := describe_mixture(run_dirs):
        raise SystemExit(f"{sweep}: {mixture}, so a mean of them has no meaning; digitnet-report {sweep} compares them")
    overrides = [str(line).lstrip("+") for line in OmegaConf.load(run_dirs[0] / ".hydra" / "overrides.yaml")]
    shared = [override for override in overrides if not override.startswith(PER_RUN_OVERRIDES)]
    return {"overrides": shared, "runs": [_read_run(run_dir) for run_dir in run_dirs]}


def _read_run(run_dir: Path) -> dict[str, Any]:
    """Return the final metrics of a run, the number of its epochs and the median seconds per epoch."""
    ends = [row["seconds"] for row in read_metrics_csv(run_dir / "metrics.csv")]
    # The median, because other processes may use the machine during a part of a run.
    epoch = statistics.median(end - start for start, end in zip([0.0, *ends], ends, strict=False))
    return json.loads((run_dir / "metrics.json").read_text()) | {"epochs": len(ends), "seconds_per_epoch": epoch}


def _format_spread(values: list[float], digits: int) -> str:
    """Return "mean ± standard deviation", or the value if there is only one."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _format_interval(percentages: list[float]) -> str:
    """Return the confidence interval of the mean over all possible seeds, assuming a normal distribution."""
    if len(percentages) < 2:
        return MISSING
    n, mean = len(percentages), statistics.mean(percentages)
    half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * statistics.stdev(percentages) / n**0.5
    return f"{mean - half:.2f}–{min(mean + half, 100):.2f}"


def _format_row(sweep: dict[str, Any]) -> str:
    """Return the row of a sweep in the Markdown table."""
    runs = sweep["runs"]
    test_accuracies = [100 * run["test/acc"] for run in runs]
    val_accuracies = [100 * run["val/acc"] for run in runs if "val/acc" in run]
    threads = {run["machine"].partition(", ")[2].partition(" ")[0] for run in runs}
    cells = [
        f"`{' '.join(sweep['overrides'])}`",
        str(len(runs)),
        _format_spread(test_accuracies, 2),
        _format_interval(test_accuracies),
        _format_spread([run["test/loss"] for run in runs], 3),
        _format_spread(val_accuracies, 2) if val_accuracies else MISSING,
        f"{runs[0]['epochs']} × {statistics.median(run['seconds_per_epoch'] for run in runs):.1f}",
        ", ".join(sorted(threads)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sweeps", nargs="+", type=Path, help="folders of finished sweeps over the seed")
    parser.add_argument("--json", type=Path, required=True, help="file that the sweeps are added to")
    arguments = parser.parse_args()
    known = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    sweeps = {tuple(sweep["overrides"]): sweep for sweep in [*known, *map(aggregate_sweep, arguments.sweeps)]}
    print(f"| {HEADER} |\n|{'---|' * len(HEADER.split(' | '))}")
    print("\n".join(map(_format_row, sweeps.values())))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps([*sweeps.values()], indent=1) + "\n")


if __name__ == "__main__":
    main()
