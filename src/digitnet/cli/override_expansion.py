"""Rewrites overrides that say what is meant in another form than Hydra's.

- `data.augmentation=off` means null, where "off" is not a value of its own; `logger=off` means the option "none".
- A class that replaces another one, by `trainer.logger._target_=...` or `trainer.logger={_target_: ...}`, does not get
  the arguments of the class that it replaces.

The command that runs, and the record of it, hold the rewritten overrides.
"""

from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from digitnet.cli.override_validation import known_parameters
from digitnet.cli.signatures import is_named_components, matches_type

_NULL_WORDS = (False, "off", "none", "None", "false", "no")
# Groups without a choice by default, in which null is the opposite of any option.
_SWITCHES = ("weight_averaging", "distillation", "experiment", "debug")


def expand_overrides(
    overrides: list[Override],
    groups: list[str],
    options_of: Callable[[str], list[str]],
    compose: Callable[[], DictConfig],
) -> list[str]:
    """Rewrite the overrides of a command line.

    Args:
        overrides: The parsed overrides.
        groups: Names of the config groups.
        options_of: Returns the options of a group.
        compose: Composes the config that the choices among the overrides give. It is called if it is needed.

    Returns:
        The overrides, as text.
    """
    deleted = {override.key_or_group for override in overrides if override.is_delete()}
    config: DictConfig | None = None
    texts: list[str] = []
    for override in overrides:
        key, text = override.key_or_group, str(override.input_line)
        if override.is_delete() or override.is_sweep_override() or key.startswith("hydra"):
            texts.append(text)
            continue
        value = override.value()
        if key in groups and not isinstance(value, dict):
            # The groups are in the defaults list, where Hydra refuses the "+" that other templates need.
            texts.append(_expand_choice(text.lstrip("+"), key, value, options_of(key)))
            continue
        if isinstance(value, dict) or key.endswith("._target_") or _is_null_word(value):
            config = config or compose()
            deletions = [each for each in _replaced_keys(key, value, config) if each not in deleted]
            texts += [f"~{each}" for each in deletions]
            text = f"{key}=null" if _means_null(key, value, config) else text
        texts.append(text)
    return texts


def _expand_choice(text: str, group: str, value: Any, options: list[str]) -> str:
    """Rewrite the choice of nothing from a group."""
    if value in options or not (value is None or _is_null_word(value)):
        return text
    if "none" in options:
        return f"{group}=none"
    return f"~{group}" if group in _SWITCHES or value is None else text


def _is_null_word(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value in _NULL_WORDS)


def _means_null(key: str, value: Any, config: DictConfig) -> bool:
    """Return whether a word for "nothing" stands where only null fits."""
    path, _, name = key.rpartition(".")
    node = OmegaConf.select(config, path) if path else None
    if not _is_null_word(value) or not isinstance(node, DictConfig):
        return False
    known = known_parameters(node)
    return name in known and matches_type(None, known[name]) and not matches_type(value, known[name])


def _replaced_keys(key: str, value: Any, config: DictConfig) -> list[str]:
    """Return the keys to delete, because an override replaces the class that they belong to."""
    if key.endswith("._target_"):
        return _replaced_arguments(key.removesuffix("._target_"), value, config)
    node = OmegaConf.select(config, key)
    if not isinstance(value, dict) or not isinstance(node, DictConfig) or not node:
        return []
    replaces = "_target_" in value or ("_target_" in node and is_named_components(value))
    return [key] if replaces else []


def _replaced_arguments(path: str, target: Any, config: DictConfig) -> list[str]:
    """Return the arguments of a class that another class does not get.

    Data modules and models keep what both accept, such as the batch size. Parts of the Trainer have nothing in common
    but the folder: a name or a version that suits one logger may make another one overwrite files.
    """
    node = OmegaConf.select(config, path)
    if not isinstance(node, DictConfig) or node.get("_target_") in (None, target):
        return []
    accepted = known_parameters(OmegaConf.create({"_target_": target}))
    kept = ("save_dir", "dirpath") if path.startswith("trainer.") else tuple(accepted)
    names = [str(name) for name in node if not str(name).startswith("_")]
    return [f"{path}.{name}" for name in names if name not in kept or name not in accepted]
