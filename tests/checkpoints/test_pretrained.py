"""The bundled models score what their cards state, and a file without a valid card is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file, save

import digitnet
from digitnet import evaluate
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.models import DigitClassifier
from tests.conftest import Run
from tests.faults.test_checkpoints import to_checkpoint_bytes

GOLDEN_DIR = Path(__file__).parents[1] / "golden"


def save_bundled(model: DigitClassifier, name: str, extra: dict[str, Any]) -> None:
    """Save a model where the bundled ones are, with more entries in its card."""
    path = pretrained.PRETRAINED_DIR / f"{name}.safetensors"
    pretrained.save_with_card(path, pretrained.serialize(model), pretrained.model_metadata(model) | extra)


@pytest.mark.parametrize("name", sorted(pretrained.pretrained_paths()))
def test_a_bundled_model_scores_the_accuracy_in_its_card(name: str, run: Run) -> None:
    card = json.loads((pretrained.PRETRAINED_DIR / f"{name}.json").read_text())
    done = run(evaluate, f"model={name}", "json_path=-")
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
    images = mnist.load_mnist("test")[0][:16]
    assert torch.equal(digitnet.load("tiny")(images), model(images))
    assert json.loads((tmp_path / "tiny.json").read_text())["note"] == "untrained"


@pytest.mark.parametrize(
    "calibration",
    [
        {"temperature": 0, "energy": 5.0},
        {"temperature": 1, "energy": float("nan")},
        {"temperature": 1},
        "1",
        1,
    ],
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
    images, _ = mnist.load_mnist("test")
    with torch.inference_mode():
        logits = digitnet.load(checkpoint)(images[:10])
    recorded = json.loads(Path(str(checkpoint).removesuffix("ckpt") + "json").read_text())
    torch.testing.assert_close(logits, torch.tensor(recorded), rtol=1e-5, atol=1e-5)


def test_checkpoints_of_the_first_release_are_among_them() -> None:
    assert {path.name for path in GOLDEN_DIR.glob("0.1.0-*.ckpt")} == {"0.1.0-cnn.ckpt", "0.1.0-mlp.ckpt"}


def with_weights(path: Path, **entries: Any) -> bytes:
    """Return the content of a safetensors file with some weights replaced."""
    return save(load_file(path) | {name.replace("_", "."): weight for name, weight in entries.items()})


CARDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not text": lambda card: b"\xff\xfe",
    "not JSON": lambda card: b"{",
    "a list": lambda card: [card],
    "nested too deeply": lambda card: b"[" * 100_000,
    "too large": lambda card: card | {"note": "x" * 2**20},
    "empty": lambda card: {},
    "an unknown class": lambda card: card | {"model": "Transformer"},
    "a class that is not a name": lambda card: card | {"model": ["MLP"]},
    "no hyper-parameters": lambda card: card | {"hyper_parameters": None},
    "another layer width": lambda card: card | {"hyper_parameters": {"hidden": [3]}},
    "many neurons": lambda card: card | {"hyper_parameters": {"hidden": [10**7, 10**7]}},
    "an unknown argument": lambda card: card | {"hyper_parameters": {"_target_": "os.system"}},
    "a NaN": lambda card: card | {"hyper_parameters": card["hyper_parameters"] | {"lr": float("nan")}},
    "another hash": lambda card: card | {"sha256": "0" * 64},
    "no hash": lambda card: card | {"sha256": None},
}
WEIGHTS: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda path: b"",
    "text": lambda path: b"hello, this is not a model",
    "truncated": lambda path: path.read_bytes()[:200_000],
    "a huge header": lambda path: (2**62).to_bytes(8, "little") + path.read_bytes()[8:],
    "a pickle": lambda path: to_checkpoint_bytes({"x": 1}),
    "no weights": lambda path: save({}),
    "another shape": lambda path: with_weights(path, net_1_weight=torch.zeros(128, 783)),
    "an unknown weight": lambda path: with_weights(path, net_9_weight=torch.zeros(1)),
    "NaN": lambda path: with_weights(path, net_1_bias=torch.full((128,), torch.nan)),
    "infinite in float32": lambda path: with_weights(path, net_1_bias=torch.full((128,), 1e300, dtype=torch.float64)),
}


def load_error(path: Path) -> str:
    """Return the message of the error that loading a file raises."""
    with pytest.raises(UsageError) as error:
        digitnet.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("case", CARDS)
def test_weights_with_an_invalid_card_are_refused(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((pretrained.PRETRAINED_DIR / "mlp.safetensors").read_bytes())
    made = CARDS[case](json.loads((pretrained.PRETRAINED_DIR / "mlp.json").read_text()))
    (tmp_path / "x.json").write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    assert "x.safetensors: " in load_error(tmp_path / "x.safetensors")


@pytest.mark.parametrize("case", WEIGHTS)
def test_invalid_weights_are_refused(case: str, tmp_path: Path) -> None:
    """Their card has the right SHA-256, as that of an attacker would."""
    content = WEIGHTS[case](pretrained.PRETRAINED_DIR / "mlp.safetensors")
    card = json.loads((pretrained.PRETRAINED_DIR / "mlp.json").read_text())
    pretrained.save_with_card(tmp_path / "x.safetensors", content, card)
    assert "SHA-256" not in load_error(tmp_path / "x.safetensors")


def test_a_changed_byte_a_missing_card_and_a_large_file_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((pretrained.PRETRAINED_DIR / "mlp.safetensors").read_bytes())
    content[-1000] ^= 1
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "x.json is missing" in load_error(tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_bytes((pretrained.PRETRAINED_DIR / "mlp.json").read_bytes())
    assert "SHA-256" in load_error(tmp_path / "x.safetensors")
    done = run(evaluate, "model=x.safetensors")
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    monkeypatch.setattr("digitnet.checkpoints.checkpoint_format.MAX_BYTES", 1000)
    assert "more than 1000 bytes" in load_error(tmp_path / "x.safetensors")
