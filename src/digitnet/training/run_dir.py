"""The run folder: its lock, the names of its files, and the tables of metrics in it."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from digitnet.checkpoints.atomic import atomic_write
from digitnet.distributed import is_main_process
from digitnet.errors import UsageError

EpochRecord = dict[str, float]
RunResult = dict[str, Any]

FINAL_METRICS = ("val/acc", "val/loss", "test/acc", "test/loss")
"""The metrics of a finished run in its `RunResult`."""


def best_checkpoint(run_dir: Path) -> Path:
    """Return the path of the best epoch's checkpoint."""
    return run_dir / "checkpoints" / "best.ckpt"


def last_checkpoint(run_dir: Path) -> Path:
    """Return the path of the last epoch's checkpoint."""
    return run_dir / "checkpoints" / "last.ckpt"


def metrics_csv(run_dir: Path) -> Path:
    """Return the path of the table with one row for each epoch."""
    return run_dir / "metrics.csv"


def metrics_json(run_dir: Path) -> Path:
    """Return the path of the result of the run."""
    return run_dir / "metrics.json"


def predictions_npz(run_dir: Path) -> Path:
    """Return the path of the best epoch's predictions for the validation and test images."""
    return run_dir / "predictions.npz"


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder.

    The lock ends with the process that holds it, however the process ends. The same process may take it twice. Only the
    first process of a run takes it, for the others as well.

    Args:
        run_dir: The folder of a run or of a sweep.

    Yields:
        Nothing.

    Raises:
        UsageError: If another process holds the lock.
    """
    if not is_main_process():
        yield
        return
    try:
        with FileLock(run_dir.resolve() / ".lock", blocking=False, is_singleton=True):
            yield
    except Timeout as error:
        raise UsageError(
            f"{run_dir}: another process is training there; wait for it, or choose another folder"
        ) from error


def write_metrics_csv(path: Path, history: list[EpochRecord]) -> None:
    """Atomically write a table with one row for each epoch.

    Args:
        path: The file to replace.
        history: The records of the epochs, which may have different keys.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(dict.fromkeys(name for record in history for name in record)))
    writer.writeheader()
    writer.writerows(history)
    atomic_write(path, table.getvalue().encode())


def read_metrics_csv(path: Path) -> list[EpochRecord]:
    """Read a table that `write_metrics_csv` has written.

    Args:
        path: The file.

    Returns:
        The records of the epochs.
    """
    with path.open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def to_json(content: dict[str, Any]) -> str:
    """Return the text of a JSON file."""
    return json.dumps(content, indent=2) + "\n"
