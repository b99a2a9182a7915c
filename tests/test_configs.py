"""Every config on disk is composed and built, so that none can rot."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import hydra
import lightning as L
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from digitnet import DigitClassifier, MNISTDataModule
from digitnet.cli.override_validation import check_types
from digitnet.training import experiment

CONFIGS = Path(__file__).parents[1] / "configs"
CHOICES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/*.yaml"))


@dataclass
class Parts:
    data: MNISTDataModule
    model: DigitClassifier
    trainer: L.Trainer


def compose(tmp_path: Path, *overrides: str) -> Parts:
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        config = hydra.compose("train", [*overrides, f"run_dir={tmp_path}"])
    check_types(config)
    return Parts(*experiment.build(config)[:3])


@pytest.mark.parametrize("choice", CHOICES)
def test_a_config_composes_and_builds(choice: str, tmp_path: Path) -> None:
    group, name = choice.split("/")
    parts = compose(tmp_path, f"{group}={name}")
    assert list(tmp_path.iterdir()) == [], "building makes nothing"
    assert parts.trainer.max_epochs


def test_the_discovery_finds_what_hydra_finds() -> None:
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = [group for group in loader.list_groups("") if group != "hydra"]
        options = sorted(f"{group}/{name}" for group in groups for name in loader.get_group_options(group))
    assert options == CHOICES


def test_a_model_brings_its_own_recipe_and_an_override_wins(tmp_path: Path) -> None:
    cnn, mlp = compose(tmp_path, "model=cnn"), compose(tmp_path, "model=mlp")
    assert cnn.trainer.max_epochs != mlp.trainer.max_epochs
    assert cnn.model.hparams.lr != mlp.model.hparams.lr
    changed = compose(tmp_path, "model=mlp", "trainer.max_epochs=7", "optimizer.lr=0.5", "data.augmentation=null")
    assert (changed.trainer.max_epochs, changed.model.hparams.lr, changed.data.augmentation) == (7, 0.5, None)


def test_a_preset_has_the_published_recipe(tmp_path: Path) -> None:
    parts = compose(tmp_path, "experiment=baseline_cnn")
    assert (parts.trainer.max_epochs, parts.data.batch_size) == (50, 128)
    assert (parts.model.hparams.optimizer, parts.model.hparams.lr) == ("adam", 1e-3)
    assert sum(parameter.numel() for parameter in parts.model.parameters()) == 225_034


def test_what_goes_into_a_checkpoint_is_plain(tmp_path: Path) -> None:
    for choice in ("model=cnn", "model=mlp", "experiment=baseline_cnn_filters"):
        values = compose(tmp_path, choice).model.hparams.values()
        assert {type(value) for value in values} <= {int, float, str, bool, list, tuple}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_is_short_and_restates_no_default_of_a_trainer(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    trainer = content if path.parent.name == "trainer" else content.get("trainer")
    signature = inspect.signature(L.Trainer).parameters
    for name, value in (trainer or {}).items():
        assert name == "_target_" or signature[name].default != value
