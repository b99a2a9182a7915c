"""The bundled models score what their cards state, and a file without a valid card is refused."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import digitnet
from digitnet import evaluate
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.models import DigitClassifier
from tests.conftest import Run

GOLDEN_DIR = Path(__file__).parents[1] / "golden"


def save_bundled(model: DigitClassifier, name: str, extra: dict[str, Any]) -> None:
    """Save a model where the bundled ones are, with more entries in its card."""
    path = pretrained.PRETRAINED_DIR / f"{name}.safetensors"
    pretrained.save_with_card(path, pretrained.serialize(model), pretrained.model_metadata(model) | extra)


@pytest.mark.parametrize("name", sorted(pretrained.pretrained_paths()))
def test_a_bundled_model_scores_the_accuracy_in_its_card(name: str, run: Run) -> None:
    card = json.loads((pretrained.PRETRAINED_DIR / f"{name}.json").read_text())
    done = run(evaluate, f"run={name}", "json=-")
    assert json.loads(done.out)["test/acc"] == card["test/acc"]


def test_the_bundled_models_stay_within_their_size_limits() -> None:
    cnn, mlp = (sum(weight.numel() for weight in digitnet.load(name).parameters()) for name in ("cnn", "mlp"))
    assert cnn < 1_000_000
    assert mlp == 109_386
    assert sum(file.stat().st_size for file in pretrained.PRETRAINED_DIR.rglob("*.*")) <= 5_000_000


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint there"):
        digitnet.load(tmp_path)


def test_a_model_saved_with_its_card_is_loaded_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", tmp_path)
    model = digitnet.CNN(channels=[4, 8], hidden=0).eval()
    save_bundled(model, "tiny", {"note": "untrained"})
    images = mnist.load("test")[0][:16]
    assert torch.equal(digitnet.load("tiny")(images), model(images))
    assert json.loads((tmp_path / "tiny.json").read_text())["note"] == "untrained"


@pytest.mark.parametrize(
    "calibration",
    [{"temperature": 0, "energy": 5.0}, {"temperature": 1, "energy": float("nan")}, {"temperature": 1}, "1", 1],
)
def test_a_card_with_an_invalid_calibration_is_refused(
    calibration: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", tmp_path)
    save_bundled(digitnet.MLP(), "mine", {"calibration": calibration})
    with pytest.raises(UsageError, match="not a model written by digitnet with its card beside it"):
        digitnet.load("mine")


def test_training_a_model_discards_its_calibration() -> None:
    model = digitnet.load("mlp")
    assert model.calibration is not None
    trainer = L.Trainer(max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model.train(), digitnet.MNISTDataModule(val_size=0))
    assert model.calibration is None


@pytest.mark.parametrize("checkpoint", sorted(GOLDEN_DIR.glob("*.ckpt")), ids=lambda path: path.stem)
def test_a_checkpoint_of_each_released_version_returns_its_recorded_logits(checkpoint: Path) -> None:
    images, _ = mnist.load("test")
    with torch.inference_mode():
        logits = digitnet.load(checkpoint)(images[:10])
    recorded = json.loads(Path(str(checkpoint).removesuffix("ckpt") + "json").read_text())
    torch.testing.assert_close(logits, torch.tensor(recorded), rtol=1e-5, atol=1e-5)


def test_checkpoints_of_the_first_release_are_among_them() -> None:
    assert {path.name for path in GOLDEN_DIR.glob("0.1.0-*.ckpt")} == {"0.1.0-cnn.ckpt", "0.1.0-mlp.ckpt"}
