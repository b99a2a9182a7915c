"""The models that come with the package are what their cards say."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch

import digitnet
from digitnet import evaluate
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from tests.conftest import Run


@pytest.mark.parametrize("name", sorted(pretrained.shipped()))
def test_a_shipped_model_scores_what_its_card_says(name: str, run: Run) -> None:
    card = json.loads((pretrained.FOLDER / f"{name}.json").read_text())
    done = run(evaluate, f"run={name}", "json=-")
    assert json.loads(done.out)["test/acc"] == card["test/acc"]


def test_the_shipped_models_are_as_small_as_promised() -> None:
    cnn, mlp = (sum(weight.numel() for weight in digitnet.load(name).parameters()) for name in ("cnn", "mlp"))
    assert cnn < 1_000_000
    assert mlp == 109_386
    assert sum(file.stat().st_size for file in pretrained.FOLDER.rglob("*.*")) <= 5_000_000


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint there"):
        digitnet.load(tmp_path)


def test_what_is_shipped_comes_back_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    model = digitnet.CNN(channels=[4, 8], hidden=0).eval()
    pretrained.ship(model, "tiny", {"note": "untrained"})
    images = mnist.load("test")[0][:16]
    assert torch.equal(digitnet.load("tiny")(images), model(images))
    assert json.loads((tmp_path / "tiny.json").read_text())["note"] == "untrained"


@pytest.mark.parametrize(
    "known", [{"temperature": 0, "energy": 5.0}, {"temperature": 1, "energy": float("nan")}, {"temperature": 1}, "1", 1]
)
def test_a_card_with_a_calibration_that_is_none_is_refused(
    known: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    pretrained.ship(digitnet.MLP(), "mine", {"calibration": known})
    with pytest.raises(UsageError, match="not a model that digitnet wrote, with its card"):
        digitnet.load("mine")


def test_a_model_that_is_trained_on_is_not_calibrated_any_more() -> None:
    model = digitnet.load("mlp")
    assert model.calibration is not None
    trainer = L.Trainer(max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model.train(), digitnet.MNISTDataModule(val_size=0))
    assert model.calibration is None


@pytest.mark.parametrize(
    "checkpoint", sorted((Path(__file__).parents[1] / "golden").glob("*.ckpt")), ids=lambda path: path.stem
)
def test_a_checkpoint_of_every_released_version_says_what_it_said_then(checkpoint: Path) -> None:
    images, _ = mnist.load("test")
    with torch.inference_mode():
        logits = digitnet.load(checkpoint)(images[:10])
    then = json.loads(Path(str(checkpoint).removesuffix("ckpt") + "json").read_text())
    torch.testing.assert_close(logits, torch.tensor(then), rtol=1e-5, atol=1e-5)


def test_the_first_version_is_among_them() -> None:
    assert {path.name for path in (Path(__file__).parents[1] / "golden").glob("0.1.0-*.ckpt")} == {
        "0.1.0-cnn.ckpt",
        "0.1.0-mlp.ckpt",
    }
