"""A LightningDataModule of one's own, from a file beside the user, and data sets of one's own without any code."""

import json
import sys
from pathlib import Path

import pytest

from digitnet import evaluate, train
from tests.conftest import FAST, Run

MODULE = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset


class Stripes(L.LightningDataModule):
    def __init__(self, classes=("low", "middle", "high"), batch_size=16, shape=(1, 28, 28), first=0, scale=1.0):
        super().__init__()
        self.classes, self.batch_size, self.shape, self.first, self.scale = classes, batch_size, shape, first, scale

    def loader(self, size):
        labels = torch.arange(size) % 3
        images = torch.zeros(size, *self.shape)
        for image, label in zip(images, labels):
            image.view(28, -1)[9 * label : 9 * label + 9] = self.scale
        return DataLoader(TensorDataset(images, labels + self.first), batch_size=self.batch_size)

    def train_dataloader(self):
        return self.loader(192)

    def val_dataloader(self):
        return self.loader(48)

    def test_dataloader(self):
        return self.loader(30)
"""
OVERRIDES = ("--config-dir=conf", "model=mlp", "data=stripes", "trainer.max_epochs=2", "trainer.log_every_n_steps=1")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a data module and its config into the folder of the test, which is on Python's path."""
    (tmp_path / "stripes_data.py").write_text(MODULE)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "stripes.yaml").write_text("_target_: stripes_data.Stripes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stripes_data", raising=False)
    return tmp_path


def test_a_data_module_that_has_only_what_lightning_needs_is_trained_scored_and_resumed(
    own_module: Path, run: Run
) -> None:
    result = run(train, *OVERRIDES, "hydra.run.dir=out")
    assert result.status == 0, result.err
    metrics = json.loads((own_module / "out" / "metrics.json").read_text())
    assert (metrics["data"], metrics["test/acc"]) == ("stripes_data.Stripes", 1.0)
    refused = run(evaluate, "model=out")
    assert refused.status == 2
    assert "has 3 classes, but mnist has 10" in refused.err
    scored = run(evaluate, "--config-dir=conf", "model=out", "data=stripes", "json_path=-", "plots_dir=plots")
    assert scored.status == 0, scored.err
    assert json.loads(scored.out.partition("\nplot")[0])["test/acc/middle"] == 1
    resumed = run(train, "--config-dir=conf", "resume=out", "trainer.max_epochs=3")
    assert resumed.status == 0, resumed.err
    assert "epoch 3/3" in resumed.out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.shape=[32,28]", "images [192, 32, 28]"),
        ("data.first=1", "from 0 to 2"),
        ("data.first=-1", "from 0 to 2"),
        ("data.scale=2.5", "floating point from 0 to 1, not normalized"),
        ("data.classes=[one,two]", "from 0 to 1"),
        ("data.classes=[one,two,one]", "data: Stripes: the class 'one' is there twice"),
        ("data.augmentation.rotation=5", "data.augmentation: no such key"),
        ("data.val_size=10", "data.val_size: no such key"),
    ],
)
def test_a_data_module_that_does_not_fit_is_refused_in_one_line_before_anything_is_written(
    override: str, message: str, own_module: Path, run: Run
) -> None:
    result = run(train, *OVERRIDES, override, "hydra.run.dir=out")
    assert result.status == 2, result.err
    assert result.err.count("\n") == 1
    assert message in result.err
    assert not (own_module / "out").exists()


def test_a_typo_in_the_config_of_a_data_module_is_not_mistaken_for_a_key_of_a_recipe(
    own_module: Path, run: Run
) -> None:
    (own_module / "conf" / "data" / "stripes.yaml").write_text("_target_: stripes_data.Stripes\nfrist: 0\n")
    result = run(train, *OVERRIDES)
    assert result.status == 2
    assert "data.frist: no such key" in result.err


def test_the_class_of_the_data_must_be_a_data_module(run: Run) -> None:
    result = run(train, *FAST, "data._target_=digitnet.data.Augmentation")
    assert result.status == 2
    assert result.err.count("\n") == 1
