"""Finds the run that was started last, for `resume=latest`, `model=latest` and `--model latest`."""

import sys
from pathlib import Path

from digitnet.errors import UsageError

LATEST = "latest"
"""The word that stands for the run that was started last."""

LOGS_DIR = Path("logs")
"""Folder of all runs, below the current folder, unless a command line says otherwise."""

_OVERRIDES = Path(".hydra/overrides.yaml")  # written when a run starts, and again when it is resumed


def expand_latest(reference: str, option: str) -> str:
    """Replace "latest" by the folder of the run that was started or resumed last, and name it on stderr.

    A file or folder called "latest" takes precedence. The jobs of a sweep are runs as well.

    Args:
        reference: A reference to a run or a model.
        option: The option that gave the reference, for the messages.

    Returns:
        The folder of the run; the reference itself if it is not "latest".

    Raises:
        UsageError: If there is no run.
    """
    if reference != LATEST or Path(LATEST).exists():
        return reference
    records = list(LOGS_DIR.glob(f"**/{_OVERRIDES}"))
    if not records:
        raise UsageError(f"{option}=latest: there is no run below {LOGS_DIR.resolve()}; name the folder of a run")
    run_dir = max(records, key=lambda record: record.stat().st_mtime_ns).parents[1]
    sys.stderr.write(f"digitnet: {option}=latest is {run_dir}\n")
    return str(run_dir)
