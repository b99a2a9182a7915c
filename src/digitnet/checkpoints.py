"""The one way in and out of a checkpoint file: whole or not at all, and nothing in it but plain data."""

import io
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from digitnet.errors import UsageError
from digitnet.models import MODELS, DigitClassifier


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning stages a checkpoint in the system's temporary folder, often another disk, from where moving is copying:
    a kill in that moment destroys the old file as well (fsspec #1827).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write(Path(path), buffer.getbuffer())


def write(path: Path, content: bytes | memoryview) -> None:
    """Replaces the file at once: whoever reads, whenever the power fails, sees all of the old or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def require_writable(folder: Path, name: str) -> None:
    """Raises UsageError if the folder cannot be made or written in; makes nothing that lasts."""
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with TemporaryDirectory(dir=existing, prefix=".digitnet-"):
            pass
    except OSError as error:
        raise UsageError(f"{name}={folder}: cannot write there ({error}); choose another folder") from error


def find(run: Path) -> Path:
    """The checkpoint meant by a run folder (its best) or by the path of a checkpoint."""
    path = run / "checkpoints" / "best.ckpt" if run.is_dir() else run
    if not path.is_file():
        raise UsageError(f"{path}: no checkpoint there; give the folder of a run, or a .ckpt file that digitnet wrote")
    return path


def load(path: Path) -> dict[str, Any]:
    """What a digitnet checkpoint holds, on the CPU. Raises UsageError for any other file; runs no code from it."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the broken bytes lead to: ten kinds were seen
        raise UsageError(f"{path}: not a whole checkpoint that digitnet wrote ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not {"digitnet_model", "state_dict", "hyper_parameters"} <= set(checkpoint):
        raise UsageError(f"{path}: not a checkpoint that digitnet wrote; train one with `python -m digitnet.train`")
    return checkpoint


def restore(path: Path) -> DigitClassifier:
    """The model in a checkpoint, in evaluation mode."""
    checkpoint = load(path)
    name = checkpoint["digitnet_model"]
    if name not in MODELS:
        raise UsageError(f"{path}: holds a {name}, but digitnet.models.MODELS knows only {', '.join(MODELS)}")
    try:
        return rebuild(name, checkpoint["hyper_parameters"], checkpoint["state_dict"])
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"{path}: does not fit {name} of this version of digitnet ({error})") from error


def rebuild(name: str, hyper_parameters: dict[str, Any], state_dict: dict[str, Any]) -> DigitClassifier:
    """A model by its name in the closed list."""
    model = MODELS[name](**hyper_parameters)
    model.load_state_dict(state_dict)
    return model.eval()
