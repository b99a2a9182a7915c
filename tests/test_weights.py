"""The models that come with the package are what their cards say."""

import json
from pathlib import Path

import pytest
import torch

import digitnet
from digitnet import evaluate, weights
from digitnet.data import mnist
from digitnet.errors import UsageError
from tests.conftest import Run

NAMES = ("cnn", "mlp")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_scores_what_its_card_says(name: str, run: Run) -> None:
    card = json.loads((weights.FOLDER / f"{name}.json").read_text())
    done = run(evaluate, f"run={name}", "json=-")
    assert json.loads(done.out)["test/acc"] == card["test/acc"]


def test_the_shipped_models_are_as_small_as_promised() -> None:
    cnn, mlp = (sum(weight.numel() for weight in digitnet.load(name).parameters()) for name in NAMES)
    assert cnn < 1_000_000
    assert mlp == 109_386
    assert sum(file.stat().st_size for file in weights.FOLDER.iterdir()) <= 5_000_000


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint there"):
        digitnet.load(tmp_path)


def test_what_is_shipped_comes_back_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    model = digitnet.CNN(channels=[4, 8], hidden=0).eval()
    weights.ship(model, "tiny", {"note": "untrained"})
    images = mnist.load("test")[0][:16]
    assert torch.equal(digitnet.load("tiny")(images), model(images))
    assert json.loads((tmp_path / "tiny.json").read_text())["note"] == "untrained"
