"""Trained models, ready to use: those that come with the package, and those of one's own runs."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from safetensors.torch import load as parse
from safetensors.torch import save

from digitnet.checkpoints import checkpoint_format
from digitnet.errors import UsageError
from digitnet.models import MODELS, DigitClassifier, Ensemble
from digitnet.models.classifier import is_finite

FOLDER = Path(__file__).parents[1] / "models" / "pretrained"  # NAME.safetensors, and NAME.json: how it was made
CARD_LIMIT = 2**20  # bytes


def shipped() -> dict[str, Path]:
    """The models that come with the package, by name; `./cnn` is a file or a run of one's own."""
    paths = sorted(FOLDER.rglob("*.safetensors"))
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in paths}


def find(source: str | Path) -> Path:
    """The file meant by the name of a shipped model, a run folder (its best), a checkpoint or an export."""
    return shipped().get(str(source)) or checkpoint_format.find(Path(source))


def find_all(source: str | Path) -> list[Path]:
    """The file that `find` finds; in the folder of a sweep those of all its runs; of the shipped `teachers` all."""
    known = shipped()
    teachers = [path for name, path in known.items() if name.startswith(f"{source}/")]
    runs = [] if str(source) in known else sorted(Path(source).glob("*/checkpoints/best.ckpt"))
    return teachers or runs or [find(source)]


def load(source: str | Path) -> DigitClassifier:
    """The model called "cnn" or "mlp" that comes with the package, or that of a run folder, a checkpoint or an export.

    It is in evaluation mode, on the CPU. Raises UsageError if there is no such model.
    """
    path = find(source)
    return restore(path) if path.suffix == ".safetensors" else checkpoint_format.restore(path)


def load_all(source: str | Path, shift: int = 0) -> DigitClassifier:
    """What `load` loads, or the ensemble of all runs of a sweep, of the shipped "teachers". `shift`: see Ensemble."""
    model, *others = (load(path) for path in find_all(source))
    if others or shift:
        model.net = Ensemble([model.net, *(other.net for other in others)], shift).eval()
    return model


def restore(path: Path) -> DigitClassifier:
    """The model in a file of `write`, with its card beside it; runs no code from either."""
    try:
        content, card = read(path, checkpoint_format.LIMIT), json.loads(read(card_of(path), CARD_LIMIT))
        if card["sha256"] != digest(content):
            raise ValueError(f"damaged, or {card_of(path).name} is another's: its SHA-256 is another")
        return unpack(content, card)
    except Exception as error:  # as many kinds as there are ways to break two files
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(f"{path}: not a model that digitnet wrote, with its card ({reason})") from error


def read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} has more than {limit} bytes")
    return path.read_bytes()


def unpack(content: bytes, card: dict[str, Any]) -> DigitClassifier:
    """Raises what torch and safetensors do if the weights are not those of the card's model, ValueError besides."""
    if card["model"] not in MODELS:
        raise ValueError(f"holds a {card['model']}, but digitnet.models.MODELS knows only {', '.join(MODELS)}")
    model = checkpoint_format.rebuild(card["model"], card["hyper_parameters"], parse(content))
    if not is_finite(model.state_dict().values()):
        raise ValueError("its weights are not finite numbers")
    if known := card.get("calibration"):
        if not (known["temperature"] > 0 and math.isfinite(known["temperature"] + known["energy"])):
            raise ValueError("its calibration is not of finite numbers, the temperature above 0")
        model.calibration = known
    return model


def pack(model: DigitClassifier) -> bytes:
    return save({key: weight.contiguous() for key, weight in model.state_dict().items()})


def describe(model: DigitClassifier) -> dict[str, Any]:
    """What `unpack` needs of a card."""
    known = {"calibration": model.calibration} if model.calibration else {}
    return {"model": type(model).__name__, "hyper_parameters": dict(model.hparams)} | known


def card_of(path: Path) -> Path:
    """NAME.json of NAME.safetensors; NAME.onnx.json of NAME.onnx, so that both can be in one folder."""
    return path.with_suffix(".json" if path.suffix == ".safetensors" else f"{path.suffix}.json")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes, card: dict[str, Any]) -> Path:
    """The file, then its card, which vouches for it and is returned."""
    text = json.dumps(card | {"sha256": digest(content)}, indent=2) + "\n"
    checkpoint_format.write(path, content)
    checkpoint_format.write(card_of(path), text.encode())
    return card_of(path)


def ship(model: DigitClassifier, name: str, card: dict[str, Any]) -> None:
    """Puts NAME.safetensors and its card into the package."""
    write(FOLDER / f"{name}.safetensors", pack(model), describe(model) | card)
