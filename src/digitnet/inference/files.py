"""Find picture files and read them."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from digitnet import signals
from digitnet.errors import UsageError, check_argument
from digitnet.inference.reader import DigitReader, ReadResult

PICTURE_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

Outcome = ReadResult | UsageError
"""The result of reading one file: its digits, or the reason why it is not a picture."""


def expand_path(path: Path) -> list[Path]:
    """Return the file itself, or the sorted pictures of a folder and its subfolders.

    Args:
        path: A file, which is returned whatever it is, or a folder.

    Raises:
        UsageError: If a folder has no pictures.

    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    check_argument(bool(files), "folder", path, "one with pictures in it")
    return files


def read_with_progress(reader: DigitReader, files: Sequence[Path]) -> list[Outcome]:
    """Read files; on a terminal, show a progress bar on stderr.

    Args:
        reader: The reader.
        files: The picture files.

    Returns:
        The outcome for each file.

    Raises:
        ShutdownRequested: If the process was asked to stop.

    """
    console, outcomes = Console(stderr=True), []
    steps = track(
        reader.read_files(files), "", len(files), console=console, transient=True, disable=not console.is_terminal
    )
    for outcome in steps:
        signals.stop()
        outcomes.append(outcome)
    return outcomes
