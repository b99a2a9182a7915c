"""The one way in and out of a checkpoint file: whole or not at all, plain data, not a byte changed on the way."""

import errno
import hashlib
import io
import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from digitnet.errors import RunError, UsageError
from digitnet.models import MODELS, Calibration, DigitClassifier, is_finite

LIMIT = 2**28  # bytes of a checkpoint, and of the tensors in it: a hundred times what digitnet's own networks need
SEAL = b"digitnet sha256 "  # and 64 hexadecimal digits: the end of a file written here, a comment to zip readers
NAMES = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")  # in a checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning stages a checkpoint in the system's temporary folder, often another disk, from where moving is copying:
    a kill in that moment destroys the old file as well (fsspec #1827). It swallows a PermissionError (#21800), and
    torch reads on over changed bytes (pytorch #126952).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = sealed(buffer.getvalue())
        try:
            require_plain_archive(content)  # or all that is trained could never be loaded
        except ValueError as error:
            raise RunError(f"{path}: would be no digitnet checkpoint ({error}); leave that out of the run") from error
        write(Path(path), content)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        return load(Path(path))


def write(path: Path, content: bytes) -> None:
    """Replaces the file at once: whoever reads, whenever the process dies, sees all of the old or all of the new.

    Raises RunError if the disk does not take it; the old file stays as it was.
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
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); mend that, then resume or repeat") from error


def sync_folder(folder: Path) -> None:
    """A new name is safe from a power failure only when its folder is on the disk as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks know no such thing
            raise
    finally:
        os.close(handle)


def sweep_leftovers(folder: Path) -> None:
    """What processes killed in the middle of `write` have left of this run."""
    for leftover in [*folder.glob(".*.part"), *folder.glob("checkpoints/.*.part")]:
        if re.fullmatch(r"\..+\.\d+\.part", leftover.name):
            leftover.unlink(missing_ok=True)


def sealed(archive: bytes) -> bytes:
    """The zip archive with its SHA-256 in the comment at its end, which zip readers, torch's too, pass over."""
    size = len(SEAL) + 64
    if not archive.endswith(bytes(2)):
        raise ValueError("not a zip archive without a comment")
    body = archive[:-2] + size.to_bytes(2, "little") + SEAL
    return body + hashlib.sha256(body).hexdigest().encode()


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
        content = verified(path)
        # First its outline alone: a tensor may claim more than its file holds, and be given the memory.
        if size_of(torch.load(io.BytesIO(content), map_location="meta", weights_only=True), {}) > len(content):
            raise ValueError("tensors larger than the file")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        ours = isinstance(checkpoint, dict) and {"digitnet_model", "state_dict", "hyper_parameters"} <= set(checkpoint)
        finite = ours and is_finite(checkpoint["state_dict"].values())
    except Exception as error:  # torch raises whatever the broken bytes lead to: ten kinds were seen
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(f"{path}: not a whole checkpoint that digitnet wrote ({reason})") from error
    if not ours:
        raise UsageError(f"{path}: not a checkpoint that digitnet wrote; train one with `python -m digitnet.train`")
    if not finite:
        raise UsageError(f"{path}: its weights are not finite numbers; train again")
    return dict(checkpoint)


def verified(path: Path) -> bytes:
    """The bytes of a zip archive that has not been changed and names no code.

    A file of Lightning's own writing has no seal; then the checksums that zip keeps of its members must do, which miss
    a change between the members. Raises ValueError or what zipfile does.
    """
    if path.stat().st_size > LIMIT:
        raise ValueError(f"more than {LIMIT} bytes")
    content = path.read_bytes()
    comment = require_plain_archive(content)
    if comment:
        if not comment.startswith(SEAL) or hashlib.sha256(content[:-64]).hexdigest().encode() != comment[len(SEAL) :]:
            raise ValueError("damaged: its SHA-256 is another")
    elif bad := zipfile.ZipFile(io.BytesIO(content)).testzip():
        raise ValueError(f"damaged: {bad}")
    return content


def require_plain_archive(content: bytes) -> bytes:
    """The comment of an archive that zipfile and torch read alike: nothing before, after or twice, nothing packed."""
    if len(content) > LIMIT:
        raise ValueError(f"more than {LIMIT} bytes")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members, comment = archive.infolist(), archive.comment
        names = [member.filename.lower() for member in members]
        programs = [member for member in members if member.filename.lower().endswith("data.pkl")]
        end = content[len(content) - 22 - len(comment) :]  # the record at the end of an archive has 22 bytes
        if not content.startswith(b"PK\3\4") or not end.startswith(b"PK\5\6"):
            raise ValueError("bytes before or after the archive")
        if len(set(names)) < len(names) or len(programs) != 1:
            raise ValueError("members of the same name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a compressed archive")
        require_plain(archive.read(programs[0]))
    return comment


def require_plain(instructions: bytes) -> None:
    """What torch itself lets a file call is more: a few bytes of `bytearray` could ask for all memory."""
    for instruction, argument, _ in pickletools.genops(instructions):
        if "GLOBAL" in instruction.name and not NAMES.fullmatch(str(argument)):
            raise ValueError(f"it names {argument}, which is no data")


def size_of(content: Any, known: dict[int, int]) -> int:
    """Bytes of all tensors in there, each counted as if nothing were shared; `known` are the parts summed before."""
    if isinstance(content, Tensor):
        return content.nbytes
    if id(content) not in known:
        parts = (
            content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
        )
        known[id(content)] = 0  # in case it holds itself
        known[id(content)] = sum(size_of(part, known) for part in parts)
    return known[id(content)]


def restore(path: Path) -> DigitClassifier:
    """The model in a checkpoint, in evaluation mode."""
    checkpoint = load(path)
    name = checkpoint["digitnet_model"]
    if not isinstance(name, str) or name not in MODELS:
        raise UsageError(f"{path}: holds a {name}, but digitnet.models.MODELS knows only {', '.join(MODELS)}")
    try:
        return build_model(name, checkpoint["hyper_parameters"], checkpoint["state_dict"])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: does not fit {name} of this version of digitnet ({reason})") from error


def build_model(
    name: str, hyper_parameters: dict[str, Any], state_dict: dict[str, Any], calibration: Calibration | None = None
) -> DigitClassifier:
    """Build a model of a class in `MODELS` from its hyper-parameters and weights.

    Args:
        name: Name of the class.
        hyper_parameters: Arguments of the class.
        state_dict: Weights of the model.
        calibration: Calibration of the model, if it is known.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        Exception: ValueError, or whatever torch raises, if the weights do not fit such a model.

    """
    if any(len(value) > len(state_dict) for value in hyper_parameters.values() if isinstance(value, list | tuple)):
        raise ValueError("more layers than weights")
    with torch.device("meta"):  # takes no memory, so numbers out of a file may say what they like
        MODELS[name](**hyper_parameters).load_state_dict(state_dict, assign=True)
    model = MODELS[name](**hyper_parameters, calibration=calibration)
    model.load_state_dict(state_dict)
    return model.eval()
