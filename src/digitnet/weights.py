"""Trained models, ready to use: those that come with the package, and those of one's own runs."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from digitnet import checkpoints
from digitnet.models import DigitClassifier

FOLDER = Path(__file__).parent / "models" / "files"  # NAME.safetensors, and NAME.json: how it was made


def find(source: str | Path) -> Path:
    """The file meant by the name of a model that comes with the package, a run folder (its best) or a checkpoint."""
    shipped = FOLDER / f"{source}.safetensors"
    return shipped if shipped.is_file() else checkpoints.find(Path(source))


def load(source: str | Path) -> DigitClassifier:
    """The model called "cnn" or "mlp" that comes with the package, or that in the folder of a run or a checkpoint.

    It is in evaluation mode, on the CPU. Raises UsageError if there is no such model.
    """
    path = find(source)
    if path.suffix != ".safetensors":
        return checkpoints.restore(path)
    card = json.loads(path.with_suffix(".json").read_text())
    return checkpoints.rebuild(card["model"], card["hyper_parameters"], load_file(path))


def ship(model: DigitClassifier, name: str, card: dict[str, Any]) -> None:
    """Writes NAME.safetensors and its card."""
    card = {"model": type(model).__name__, "hyper_parameters": dict(model.hparams)} | card
    packed = {key: weight.contiguous() for key, weight in model.state_dict().items()}
    checkpoints.write(FOLDER / f"{name}.safetensors", save(packed))
    checkpoints.write(FOLDER / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
