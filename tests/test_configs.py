"""Every configuration file can be composed and instantiated."""

import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from digitnet import CNN, MLP, DigitClassifier, MNISTDataModule, ResNet
from digitnet.cli.override_validation import check_types
from digitnet.errors import UsageError
from digitnet.training.build import build_run

CONFIGS = Path(__file__).parents[1] / "configs"
CHOICES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/*.yaml"))

# What this machine lacks, with the text of the answer.
UNAVAILABLE = {
    f"logger/{name}": f"pip install {name}" for name in ("wandb", "mlflow") if importlib.util.find_spec(name) is None
} | ({} if torch.cuda.is_available() else {"trainer/gpu": "this machine has no GPU; use trainer.accelerator=cpu"})


@dataclass
class Components:
    """The components that are instantiated from a training configuration."""

    data: MNISTDataModule
    model: DigitClassifier
    trainer: L.Trainer


def compose(tmp_path: Path, *overrides: str) -> Components:
    """Compose the training configuration with the given overrides, validate it and instantiate its components."""
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        config = hydra.compose("train", [*overrides, f"run_dir={tmp_path}"])
    check_types(config)
    run = build_run(config)
    return Components(run.data, run.model, run.trainer)


def own_data(choice: str, folder: Path) -> list[str]:
    """Write a small data set for a choice that reads the user's own, and return the override that names it."""
    images, labels = np.zeros((60, 28, 28), np.uint8), np.arange(60) % 10
    np.savez(folder / "own.npz", train_images=images, train_labels=labels)
    for name in range(10):
        (folder / "own" / str(name)).mkdir(parents=True)
    roots = {"data/arrays": "own.npz", "data/folder": "own"}
    return [f"++data.root={folder / roots[choice]}"] if choice in roots else []


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_a_config_group_can_be_instantiated(choice: str, tmp_path: Path) -> None:
    group, name = choice.split("/")
    (run_dir := tmp_path / "run").mkdir()
    overrides = [f"{group}={name}", *own_data(choice, tmp_path)]
    if choice in UNAVAILABLE:
        with pytest.raises(UsageError, match=UNAVAILABLE[choice]):
            compose(run_dir, *overrides)
        return
    components = compose(run_dir, *overrides)
    assert list(run_dir.iterdir()) == [], "Instantiation must write no files."
    assert components.trainer.max_epochs


def test_the_choices_of_these_tests_are_those_that_hydra_lists() -> None:
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = [group for group in loader.list_groups("") if group != "hydra"]
        options = sorted(f"{group}/{name}" for group in groups for name in loader.get_group_options(group))
    assert options == CHOICES


def test_a_model_config_sets_its_own_recipe_and_an_override_takes_precedence(tmp_path: Path) -> None:
    cnn, mlp = compose(tmp_path, "model=cnn"), compose(tmp_path, "model=mlp")
    assert cnn.trainer.max_epochs != mlp.trainer.max_epochs
    assert cnn.model.hparams.lr != mlp.model.hparams.lr
    changed = compose(tmp_path, "model=mlp", "trainer.max_epochs=7", "optimizer.lr=0.5", "data.augmentation=null")
    assert (changed.trainer.max_epochs, changed.model.hparams.lr, changed.data.augmentation) == (7, 0.5, None)


@pytest.mark.parametrize(("choice", "network"), [("cnn", CNN), ("mlp", MLP), ("resnet", ResNet)])
def test_the_defaults_of_a_class_are_the_values_of_its_config(
    choice: str, network: type[DigitClassifier], tmp_path: Path
) -> None:
    configured = compose(tmp_path, f"model={choice}")
    assert plain(network().hparams) == plain(configured.model.hparams)
    data = MNISTDataModule()
    same = ("seed", "split_seed", "val_size", "train_size", "root")
    assert [getattr(data, name) for name in same] == [getattr(configured.data, name) for name in same]
    assert network is MLP or data.batch_size == configured.data.batch_size


def plain(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters with lists in place of tuples, which mean the same."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in hparams.items()}


def test_the_default_cnn_has_66426_parameters() -> None:
    assert sum(parameter.numel() for parameter in CNN().parameters()) == 66_426


def test_baseline_cnn_has_the_published_recipe(tmp_path: Path) -> None:
    components = compose(tmp_path, "experiment=baseline_cnn")
    assert (components.trainer.max_epochs, components.data.batch_size) == (50, 128)
    assert (components.model.hparams.optimizer, components.model.hparams.lr) == ("adam", 1e-3)
    assert sum(parameter.numel() for parameter in components.model.parameters()) == 225_034


def test_hyper_parameters_in_a_checkpoint_have_builtin_types(tmp_path: Path) -> None:
    for choice in ("model=cnn", "model=mlp", "experiment=baseline_cnn_filters"):
        values = compose(tmp_path, choice).model.hparams.values()
        assert {type(value) for value in values} <= {int, float, str, bool, list, tuple}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_has_at_most_60_lines_and_repeats_no_default_of_the_trainer(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    trainer = content if path.parent.name == "trainer" else content.get("trainer")
    signature = inspect.signature(L.Trainer).parameters
    for name, value in (trainer or {}).items():
        assert name in ("_target_", "defaults") or signature[name].default != value
