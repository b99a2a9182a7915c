"""The format of a checkpoint file: a zip archive of plain data with a checksum, verified before anything is loaded."""

import hashlib
import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digitnet.checkpoints.migrations import migrate_checkpoint
from digitnet.errors import UnknownModelError, UsageError
from digitnet.models import Calibration, DatasetRecord, DigitClassifier, is_finite
from digitnet.models.registry import find_model, model_name

# The largest checkpoint, and the largest sum of its tensors, in bytes: a hundred times what digitnet's networks need.
MAX_BYTES = 2**28
# The comment at the end of the archive, followed by 64 hexadecimal digits. Zip readers, torch's included, ignore it.
CHECKSUM_MARKER = b"digitnet sha256 "
_ALLOWED_GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
_END_RECORD_BYTES = 22  # the record at the end of a zip archive, without its comment


def append_checksum(archive: bytes) -> bytes:
    """Store the SHA-256 of a zip archive in the archive's own comment.

    Args:
        archive: A zip archive without a comment, as `torch.save` writes it.

    Returns:
        The archive with the comment.

    Raises:
        ValueError: If the archive has a comment already, or is not a zip archive.
    """
    size = len(CHECKSUM_MARKER) + 64
    if not archive.endswith(bytes(2)):
        raise ValueError("not a zip archive without a comment")
    body = archive[:-2] + size.to_bytes(2, "little") + CHECKSUM_MARKER
    return body + hashlib.sha256(body).hexdigest().encode()


def resolve_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path refers to.

    Args:
        path: A run folder, which stands for its best checkpoint, or a checkpoint.

    Returns:
        The path of the checkpoint.

    Raises:
        UsageError: If there is no such file.
    """
    checkpoint = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not checkpoint.is_file():
        raise UsageError(f"{checkpoint}: no checkpoint there; give a run folder, or a .ckpt file that digitnet wrote")
    if checkpoint.suffix == ".onnx":
        raise UsageError(f"{path}: ONNX files are for other programs; give the run, or a .safetensors file")
    return checkpoint


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint to the CPU, without running any code from it.

    Args:
        path: A checkpoint that digitnet or Lightning wrote. Checkpoints of earlier versions are translated.

    Returns:
        The content: `state_dict`, `hyper_parameters`, `digitnet_model`, `digitnet_dataset` (None if it is not known)
        and what Lightning needs to resume.

    Raises:
        UsageError: If the file is missing, damaged, not plain data, not a checkpoint of digitnet, or has weights that
            are not finite.
    """
    try:
        content = read_verified(path)
        # Load only the shapes first: a tensor may claim more memory than the file has bytes.
        if _tensor_bytes(torch.load(io.BytesIO(content), map_location="meta", weights_only=True), {}) > len(content):
            raise ValueError("tensors larger than the file")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        is_ours = isinstance(checkpoint, dict) and {"digitnet_model", "state_dict", "hyper_parameters"} <= set(
            checkpoint
        )
        finite = is_ours and is_finite(checkpoint["state_dict"].values())
        migrated = migrate_checkpoint(checkpoint) if is_ours else {}
        if migrated.get("digitnet_dataset"):
            DatasetRecord.from_dict(migrated["digitnet_dataset"])  # raises if it is damaged
    except Exception as error:  # torch raises ten different types, depending on which bytes are damaged
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(f"{path}: not an intact checkpoint that digitnet wrote ({reason})") from error
    if not is_ours:
        raise UsageError(f"{path}: not a checkpoint that digitnet wrote; train one with `python -m digitnet.train`")
    if not finite:
        raise UsageError(f"{path}: its weights are not finite; train again")
    return migrated


def read_verified(path: Path) -> bytes:
    """Read a checkpoint file and verify that it was not changed and names no code.

    A file that Lightning wrote without `AtomicCheckpointIO` has no checksum. Then the CRC of each member is checked,
    which misses changes between the members.

    Args:
        path: The file.

    Returns:
        The content of the file, a zip archive.

    Raises:
        ValueError: If the file is too large, damaged, or names code.
        OSError: If the file cannot be read.
        zipfile.BadZipFile: If the file is not a zip archive.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    content = path.read_bytes()
    comment = validate_archive(content)
    if comment:
        checksum = CHECKSUM_MARKER + hashlib.sha256(content[:-64]).hexdigest().encode()
        if comment != checksum:
            raise ValueError("damaged: its SHA-256 does not match")
    elif bad := zipfile.ZipFile(io.BytesIO(content)).testzip():
        raise ValueError(f"damaged: {bad}")
    return content


def validate_archive(content: bytes) -> bytes:
    """Check that zipfile and torch read an archive in the same way, and that its pickle names no code.

    Args:
        content: The archive.

    Returns:
        The comment of the archive, empty if there is none.

    Raises:
        ValueError: If there are bytes around the archive, duplicate or compressed members, or a pickle that names code.
        zipfile.BadZipFile: If the content is not a zip archive.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members, comment = archive.infolist(), archive.comment
        names = [member.filename.lower() for member in members]
        pickles = [member for member in members if member.filename.lower().endswith("data.pkl")]
        end_record = content[len(content) - _END_RECORD_BYTES - len(comment) :]
        if not content.startswith(b"PK\3\4") or not end_record.startswith(b"PK\5\6"):
            raise ValueError("bytes before or after the archive")
        if len(set(names)) < len(names) or len(pickles) != 1:
            raise ValueError("members of the same name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a compressed archive")
        _validate_pickle(archive.read(pickles[0]))
    return comment


def _validate_pickle(instructions: bytes) -> None:
    """Refuse every global but those of tensors: torch allows more, such as a `bytearray` that asks for all memory."""
    for instruction, argument, _ in pickletools.genops(instructions):
        if "GLOBAL" in instruction.name and not _ALLOWED_GLOBALS.fullmatch(str(argument)):
            raise ValueError(f"it names {argument}, which is not plain data")


def _tensor_bytes(content: Any, known: dict[int, int]) -> int:
    """Sum the bytes of all tensors in nested containers, as if no memory were shared; `known` caches visited parts."""
    if isinstance(content, Tensor):
        return content.nbytes
    if id(content) not in known:
        is_sequence = isinstance(content, list | tuple)
        parts = content.values() if isinstance(content, Mapping) else content if is_sequence else ()
        known[id(content)] = 0  # in case the container holds itself
        known[id(content)] = sum(_tensor_bytes(part, known) for part in parts)
    return known[id(content)]


def load_checkpoint_model(path: Path) -> DigitClassifier:
    """Build the model of a checkpoint.

    Args:
        path: The checkpoint.

    Returns:
        The model, on the CPU and in evaluation mode.

    Raises:
        UsageError: If the checkpoint cannot be loaded, or no imported module defines its model.
    """
    checkpoint = load_checkpoint(path)
    name = checkpoint["digitnet_model"]
    if not find_model(name):
        raise UnknownModelError(path, name)
    try:
        model = build_model(name, checkpoint["hyper_parameters"], checkpoint["state_dict"])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: does not fit the {name} of this version of digitnet ({reason})") from error
    record = checkpoint["digitnet_dataset"]
    model.dataset = DatasetRecord.from_dict(record) if record else None
    return model


def check_loadable(model: DigitClassifier) -> None:
    """Check, before it is trained, that a model can be loaded from its own checkpoint and returns logits.

    Args:
        model: The model, with its initial weights. It is in evaluation mode afterwards.

    Raises:
        UsageError: If its hyper-parameters are not plain data, its class cannot be built from them, or its output has
            another shape.
    """
    name = model_name(type(model))
    buffer = io.BytesIO()
    try:
        torch.save((dict(model.hparams), model.state_dict()), buffer)
        validate_archive(buffer.getvalue())
        buffer.seek(0)
        build_model(name, *torch.load(buffer, weights_only=True))
        with torch.no_grad():
            shape = list(model.eval()(torch.zeros(2, 28, 28)).shape)
    except Exception as error:  # whatever the class raises
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(
            f"model: {name} could not be loaded from its own checkpoint ({reason}); give it plain values as arguments, "
            "and pass the rest to super().__init__"
        ) from error
    if shape != [2, model.num_classes]:
        raise UsageError(
            f"model: {name} returns a tensor {shape} for 2 images, but must return [2, {model.num_classes}]; its "
            "last layer must have self.num_classes outputs"
        )


def build_model(
    name: str, hyper_parameters: dict[str, Any], state_dict: dict[str, Any], calibration: Calibration | None = None
) -> DigitClassifier:
    """Build a model from its name, hyper-parameters and weights.

    Args:
        name: Name of the class, which `find_model` must know.
        hyper_parameters: Keyword arguments of the class, as plain values.
        state_dict: The weights.
        calibration: Calibration of the model's probabilities, if it is known.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: If the class is not known, or a hyper-parameter describes more layers than there are weights, or is
            out of range.
        RuntimeError: If the weights do not fit the network.
        TypeError: If a hyper-parameter is unknown.
    """
    if any(len(value) > len(state_dict) for value in hyper_parameters.values() if isinstance(value, list | tuple)):
        raise ValueError("more layers than weights")
    if not {"distillation", "calibration"}.isdisjoint(hyper_parameters):
        raise ValueError("hyper-parameters that a checkpoint never stores")
    model_class = find_model(name)
    if model_class is None:
        raise ValueError(f"no imported module defines {name}")
    with torch.device("meta"):  # needs no memory, whatever sizes the file claims
        model_class(**hyper_parameters).load_state_dict(state_dict, assign=True)
    model = model_class(**hyper_parameters, calibration=calibration)
    model.load_state_dict(state_dict)
    return model.eval()
