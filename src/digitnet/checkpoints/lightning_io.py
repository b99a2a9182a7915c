"""The plugin through which a Lightning Trainer saves and loads checkpoints."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from digitnet.checkpoints.atomic import atomic_write
from digitnet.checkpoints.checkpoint_format import append_checksum, load_checkpoint, validate_archive
from digitnet.errors import RunError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves each checkpoint atomically and with a checksum, and verifies it when it is loaded.

    Lightning stages a checkpoint in the system's temporary directory, which is often on another disk. Moving it from
    there is a copy, so that a kill at that moment destroys the old file as well (fsspec #1827). Lightning also swallows
    a PermissionError (#21800), and torch does not notice changed bytes (pytorch #126952).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: The state to save, as plain data.
            path: The file to replace.
            storage_options: Ignored; part of Lightning's interface.

        Raises:
            RunError: If the state holds anything that `load_checkpoint` would refuse, or the disk refuses the write.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = append_checksum(buffer.getvalue())
        try:
            validate_archive(content)  # otherwise the result of the training could never be loaded
        except ValueError as error:
            raise RunError(
                f"{path}: not saved, because it could not be loaded again ({error}); remove that from the run"
            ) from error
        atomic_write(Path(path), content)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Load and verify a checkpoint; see `digitnet.checkpoints.checkpoint_format.load_checkpoint`."""
        return load_checkpoint(Path(path))
