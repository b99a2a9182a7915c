"""Validation of overrides against signatures: unknown keys get a suggestion, values must have the annotated type."""

import random
from pathlib import Path
from typing import Any, Literal

import hydra
import lightning as L
import pytest
from omegaconf import DictConfig, OmegaConf

from digitnet.cli.override_validation import _all_keys, check_key, check_types
from digitnet.cli.signatures import accepted_parameters, matches_type
from digitnet.cli.suggestions import did_you_mean
from digitnet.errors import UsageError


@pytest.fixture(scope="module")
def config() -> DictConfig:
    """Return the default training configuration."""
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        return hydra.compose("train", ["run_dir=x"])


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, True),
        (3.0, int, False),
        (True, int, False),
        (1, bool, False),
        (False, bool, True),
        (3, float, True),
        ("ten", float, False),
        (None, float, False),
        (None, float | None, True),
        ("a", str, True),
        (5, str, False),
        ("a", str | Path | None, True),
        ("a", Path, True),
        ("b", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (16, Literal[16, "16"], True),
        (True, Literal[1], False),
        ([1, 2], tuple[int, ...], True),
        ([1, "x"], list[int], False),
        ([1], int, False),
        (4, int | list[int], True),
        ({"a": 1}, dict[str, int], True),
        ({"_target_": "any.Thing"}, L.Callback, True),
        ("text", L.Callback, False),
        (object, Any, True),
    ],
)
def test_matches_type_compares_a_value_with_an_annotation(value: Any, annotation: Any, expected: bool) -> None:
    assert matches_type(value, annotation) is expected


def test_every_argument_of_the_trainer_is_accepted_as_a_key(config: DictConfig) -> None:
    import inspect

    assert set(inspect.signature(L.Trainer).parameters) == set(accepted_parameters(config.trainer))
    check_key("trainer.precision", config, [])
    with pytest.raises(UsageError):
        check_key("trainer.precisions", config, [])


def test_arguments_that_a_model_passes_to_its_base_class_are_accepted_as_keys(config: DictConfig) -> None:
    assert {"channels", "dropout", "lr", "warmup_fraction"} <= set(accepted_parameters(config.model))
    assert "**" not in accepted_parameters(config.model)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("optimzer.lr", "optimizer.lr"),
        ("optimizer.l", "optimizer.lr"),
        ("model.dropuot", "model.dropout"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("trainer.precison", "trainer.precision"),
        ("data.batchsize", "data.batch_size"),
        ("batch_size", "data.batch_size"),
        ("modle", "model"),
        ("data.augmentation.rotatoin", "data.augmentation.rotation"),
    ],
)
def test_the_error_about_an_unknown_key_suggests_the_correct_one(wrong: str, right: str, config: DictConfig) -> None:
    with pytest.raises(UsageError, match=rf"{wrong}: no such key; did you mean .*{right}\b"):
        check_key(wrong, config, ["model"])


def test_the_key_is_suggested_for_a_typo_in_it(config: DictConfig) -> None:
    rng = random.Random(0)
    keys = _all_keys(config)
    suggested = 0
    for key in keys:
        at = rng.randrange(len(key))
        typo = rng.choice([key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key[:at] + "x" + key[at + 1 :]])
        suggested += key in did_you_mean(typo, keys)
    assert len(keys) > 80
    assert suggested / len(keys) >= 0.95


def test_the_error_about_a_wrong_value_names_the_key_that_was_set(config: DictConfig) -> None:
    changed = OmegaConf.merge(config, {"optimizer": {"lr": "abc"}})
    assert isinstance(changed, DictConfig)
    with pytest.raises(UsageError, match=r"optimizer\.lr=abc: must be a number"):
        check_types(changed)


def test_a_typo_is_rejected_even_where_any_keyword_argument_is_accepted(config: DictConfig) -> None:
    check_key("trainer.logger.filename_suffix", config, [])  # The logger passes this argument on to SummaryWriter.
    with pytest.raises(UsageError, match=r"did you mean trainer\.logger\.save_dir"):
        check_key("trainer.logger.savxe_dir", config, [])
