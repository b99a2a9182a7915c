"""Files that are replaced whole or not at all."""

import errno
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from digitnet.errors import RunError, UsageError


def atomic_write(path: Path, content: bytes) -> None:
    """Atomically replace a file.

    Whenever the process or the machine stops, the file holds either all of the old or all of the new content.

    Args:
        path: The file. Missing parent directories are created.
        content: The new content.

    Raises:
        RunError: If the file system refuses the write. The old file is unchanged.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
        fsync_dir(path.parent)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); fix the cause, then resume or repeat the command"
        ) from error


def fsync_dir(directory: Path) -> None:
    """Flush a directory to disk: after a power failure a new file name exists only if its directory was flushed.

    Args:
        directory: The directory that holds the new name.

    Raises:
        OSError: If the disk fails. A file system that does not support the operation is not an error.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)


def remove_partial_files(run_dir: Path) -> None:
    """Remove the staged files that processes killed during `atomic_write` have left in a run folder.

    Args:
        run_dir: The run folder. Its `checkpoints` directory is cleaned as well.
    """
    for path in [*run_dir.glob(".*.part"), *run_dir.glob("checkpoints/.*.part")]:
        if re.fullmatch(r"\..+\.\d+\.part", path.name):
            path.unlink(missing_ok=True)


def check_writable(directory: Path, name: str) -> None:
    """Check that files can be created in a directory, without leaving anything behind.

    Args:
        directory: The directory, which need not exist yet.
        name: The option that names the directory, for the error message.

    Raises:
        UsageError: If the directory cannot be created or written to.
    """
    try:
        existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
        with TemporaryDirectory(dir=existing, prefix=".digitnet-"):
            pass
    except OSError as error:
        raise UsageError(f"{name}={directory}: cannot write there ({error}); choose another directory") from error
