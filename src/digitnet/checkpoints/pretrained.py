"""Load trained models: the bundled ones, and those of your own runs.

A model reference, the argument `model` of the functions below, is one of

- the name of a bundled model: "cnn", "mlp" or "teachers/1"; or "bundled:cnn", where a file or folder is called "cnn"
  as well (a `pathlib.Path` is never a name);
- a run folder, which stands for its best checkpoint;
- a checkpoint;
- a .safetensors file that `digitnet.export` has written, with its card beside it.

The card is a JSON file that describes the model (its class, hyper-parameters, calibration and SHA-256).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch

from digitnet.checkpoints import checkpoint_format
from digitnet.checkpoints.atomic import atomic_write
from digitnet.checkpoints.migrations import migrate_hyper_parameters
from digitnet.errors import UnknownModelError, UsageError
from digitnet.models import (
    MNIST_RECORD,
    Calibration,
    DatasetRecord,
    DigitClassifier,
    DigitModule,
    Ensemble,
    is_finite,
)
from digitnet.models.registry import find_model, model_name

PRETRAINED_DIR = Path(__file__).parents[1] / "models" / "pretrained"
"""Folder of the bundled models: NAME.safetensors, and NAME.json, the card."""

_BUNDLED_PREFIX = "bundled:"
_MAX_CARD_BYTES = 2**20


def pretrained_paths() -> dict[str, Path]:
    """Return the weight files of the bundled models by name."""
    paths = sorted(PRETRAINED_DIR.rglob("*.safetensors"))
    return {path.relative_to(PRETRAINED_DIR).with_suffix("").as_posix(): path for path in paths}


def _bundled_paths(model: str | Path) -> list[Path]:
    """Return the files of the bundled models that a reference names: one, several ("teachers") or none.

    Raises:
        UsageError: If there is no such bundled model, or if a file or folder has the same name.
    """
    if isinstance(model, Path):
        return []
    name = str(model).removeprefix(_BUNDLED_PREFIX)
    bundled = pretrained_paths()
    found = [path for key, path in bundled.items() if key == name or key.startswith(f"{name}/")]
    if name != str(model) and not found:
        raise UsageError(f"{model}: no such bundled model; there are {', '.join(bundled)}")
    if name == str(model) and found and Path(name).exists():
        raise UsageError(
            f"{name}: is a bundled model, and there is a file or folder of that name; "
            f"type {_BUNDLED_PREFIX}{name} for the model, or ./{name} for the path"
        )
    return found


def resolve_model(model: str | Path) -> Path:
    """Return the file that a model reference stands for.

    Args:
        model: Model reference (see the top of this module).

    Raises:
        UsageError: If there is no such model, or if the name of a bundled model is also a path.
    """
    bundled = _bundled_paths(model)
    return bundled[0] if len(bundled) == 1 else checkpoint_format.resolve_checkpoint(Path(model))


def resolve_models(model: str | Path) -> list[Path]:
    """Return all files that a reference to one model or to several models stands for.

    Args:
        model: Model reference (see the top of this module); or the folder of a sweep, which stands for the best
            checkpoints of all its runs; or "teachers", which stands for all bundled teachers.

    Raises:
        UsageError: If there is no such model, or if the name of a bundled model is also a path.
    """
    return _bundled_paths(model) or sorted(Path(model).glob("*/checkpoints/best.ckpt")) or [resolve_model(model)]


def load(model: str | Path) -> DigitClassifier:
    """Load a trained model.

    Args:
        model: Model reference (see the top of this module).

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UsageError: If there is no such model, or if its file is damaged.
    """
    path = resolve_model(model)
    return _load_safetensors(path) if path.suffix == ".safetensors" else checkpoint_format.load_checkpoint_model(path)


def load_ensemble(model: str | Path, tta_shift: int = 0) -> DigitModule:
    """Load one model or an ensemble of several models, optionally with test-time augmentation.

    Args:
        model: Reference to one model or to several models (see `resolve_models`).
        tta_shift: Largest shift of the image in pixels, in each direction (see `Ensemble`); 0 turns it off.

    Returns:
        The model or ensemble in evaluation mode, on the CPU.

    Raises:
        UsageError: If there is no such model, or if a file is damaged.
    """
    members = [load(path) for path in resolve_models(model)]
    return Ensemble(members, tta_shift).eval() if len(members) > 1 or tta_shift else members[0]


def load_dataset_record(path: Path) -> DatasetRecord | None:
    """Return the record of the data set that a model was trained on.

    Args:
        path: A checkpoint, or a .safetensors file with its card beside it.

    Returns:
        The record; None if it is not known.

    Raises:
        UsageError: If the file is damaged.
    """
    if path.suffix == ".safetensors":
        with _report_damage(path):
            return _dataset_record(_read_safetensors(path)[1])
    content = checkpoint_format.load_checkpoint(path)["digitnet_dataset"]
    return DatasetRecord.from_dict(content) if content else None


def _load_safetensors(path: Path) -> DigitClassifier:
    """Load the model in a file of `save_with_card`; executes no code from the file or its card."""
    with _report_damage(path):
        content, card = _read_safetensors(path)
        if not find_model(card["model"]):
            raise UnknownModelError(path, card["model"])
        return deserialize(content, card)


def _read_safetensors(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Read the content of a file of `save_with_card` and its card, and verify that they belong together."""
    content, card = _read(path, checkpoint_format.MAX_BYTES), json.loads(_read(card_path(path), _MAX_CARD_BYTES))
    if card["sha256"] != sha256_hex(content):
        raise ValueError(f"its SHA-256 differs from that in {card_path(path).name}: damaged, or not its card")
    return content, card


@contextmanager
def _report_damage(path: Path) -> Iterator[None]:
    """Raise UsageError for whatever a damaged file or card raises inside the block."""
    try:
        yield
    except UnknownModelError:
        raise
    except Exception as error:  # as many types as there are ways to break two files
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(f"{path}: not a model written by digitnet with its card beside it ({reason})") from error


def _read(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"{path.name} has more than {max_bytes} bytes")
    return path.read_bytes()


def deserialize(content: bytes, card: dict[str, Any]) -> DigitClassifier:
    """Build the model that a card describes from its serialized weights.

    Args:
        content: Weights in the safetensors format.
        card: Metadata of the model (see `model_metadata`).

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        Exception: ValueError, or whatever torch and safetensors raise, if the weights do not fit the card's model.
    """
    calibration = None
    if values := card.get("calibration"):
        calibration = Calibration(values["temperature"], values["energy"])
    hyper_parameters = migrate_hyper_parameters(card["hyper_parameters"])
    state_dict = safetensors.torch.load(content)
    model = checkpoint_format.build_model(card["model"], hyper_parameters, state_dict, calibration)
    if not is_finite(model.state_dict().values()):
        raise ValueError("its weights are not finite numbers")
    model.dataset = _dataset_record(card)
    return model


def _dataset_record(card: dict[str, Any]) -> DatasetRecord | None:
    """Return the record of the data set in a card: MNIST's in a card of 0.2.0 or earlier, None if it is not known."""
    record = card.get("dataset", MNIST_RECORD.public_dict())
    return DatasetRecord.from_dict(record) if record else None


def serialize(model: DigitClassifier) -> bytes:
    """Return the weights of a model in the safetensors format."""
    return safetensors.torch.save({key: weight.contiguous() for key, weight in model.state_dict().items()})


def model_metadata(model: DigitClassifier) -> dict[str, Any]:
    """Return the entries of a card that `deserialize` needs to build the model."""
    metadata: dict[str, Any] = {"model": model_name(type(model)), "hyper_parameters": dict(model.hparams)}
    metadata["dataset"] = model.dataset.public_dict() if model.dataset else None
    if known := model.calibration:
        metadata["calibration"] = {"temperature": known.temperature, "energy": known.energy_threshold}
    return metadata


def card_path(path: Path) -> Path:
    """Return the path of a file's card: NAME.json for NAME.safetensors, NAME.onnx.json for NAME.onnx.

    The names differ so that both formats of one model can be kept in one folder.
    """
    return path.with_suffix(".json" if path.suffix == ".safetensors" else f"{path.suffix}.json")


def sha256_hex(content: bytes) -> str:
    """Return the SHA-256 of the content as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def save_with_card(path: Path, content: bytes, card: dict[str, Any]) -> Path:
    """Write a model file, then its card.

    Args:
        path: Path of the model file.
        content: Content of the model file.
        card: Entries of the card; the SHA-256 of the content is added.

    Returns:
        The path of the card.
    """
    text = json.dumps(card | {"sha256": sha256_hex(content)}, indent=2) + "\n"
    atomic_write(path, content)
    atomic_write(card_path(path), text.encode())
    return card_path(path)
