"""Overrides against signatures: known keys pass, others get the nearest name, values have the annotated type."""

import random
from pathlib import Path
from typing import Any, Literal

import hydra
import lightning as L
import pytest
from omegaconf import DictConfig, OmegaConf

from digitnet.cli.override_validation import all_keys, check_key, check_types, fits, parameters, suggest
from digitnet.errors import UsageError


@pytest.fixture(scope="module")
def config() -> DictConfig:
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
def test_a_value_fits_its_annotation(value: Any, annotation: Any, expected: bool) -> None:
    assert fits(value, annotation) is expected


def test_every_argument_of_the_trainer_is_a_key(config: DictConfig) -> None:
    import inspect

    assert set(inspect.signature(L.Trainer).parameters) == set(parameters(config.trainer))
    check_key("trainer.precision", config, [])
    with pytest.raises(UsageError):
        check_key("trainer.precisions", config, [])


def test_arguments_passed_on_to_the_base_class_are_keys(config: DictConfig) -> None:
    assert {"channels", "dropout", "lr", "warmup_fraction"} <= set(parameters(config.model))
    assert "**" not in parameters(config.model)


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
def test_a_wrong_key_gets_the_right_one_named(wrong: str, right: str, config: DictConfig) -> None:
    with pytest.raises(UsageError, match=rf"{wrong}: no such key; did you mean .*{right}\b"):
        check_key(wrong, config, ["model"])


def test_one_typo_in_any_key_leads_back_to_it(config: DictConfig) -> None:
    draw = random.Random(0)
    keys = all_keys(config)
    led_back = 0
    for key in keys:
        at = draw.randrange(len(key))
        typo = draw.choice([key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key[:at] + "x" + key[at + 1 :]])
        led_back += key in suggest(typo, keys)
    assert len(keys) > 80
    assert led_back / len(keys) >= 0.95


def test_a_wrong_value_is_named_by_the_key_it_was_given_to(config: DictConfig) -> None:
    changed = OmegaConf.merge(config, {"optimizer": {"lr": "abc"}})
    assert isinstance(changed, DictConfig)
    with pytest.raises(UsageError, match=r"optimizer\.lr=abc: must be float"):
        check_types(changed)


def test_where_any_name_would_do_a_near_miss_is_still_a_typo(config: DictConfig) -> None:
    check_key("trainer.logger.filename_suffix", config, [])  # of the SummaryWriter behind it
    with pytest.raises(UsageError, match=r"did you mean trainer\.logger\.save_dir"):
        check_key("trainer.logger.savxe_dir", config, [])
