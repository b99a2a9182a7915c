"""Checks overrides against the signatures of the classes that they configure, before anything is created.

A config file holds decisions only. Which other keys a node may have, and of which types, follows from the signature of
its `_target_`. So `trainer.precision=bf16-mixed` needs neither a `+` nor a line of YAML, and `trainer.max_epoch=3` is
answered with "did you mean trainer.max_epochs?".
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from inspect import formatannotation
from typing import Any, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf

from digitnet.cli.signatures import ANY_NAME, accepted_parameters, matches_type, resolve_target
from digitnet.data.datamodule import RECIPE_DATA_KEYS
from digitnet.errors import UsageError

_HYDRA_KEYWORDS = ("_target_", "_convert_", "_partial_", "_recursive_")

# Keys and options of digitnet 0.1.0 whose new name is not the most similar one.
_RENAMED = {
    "averaging": "weight_averaging",
    "folder": "run_dir",
    "run": "model",
    "json": "json_path",
    "plots": "plots_dir",
    "distillation.weight": "distillation.alpha",
    "distillation.teacher.source": "distillation.teacher.model",
    "cnn_teacher_valid": "cnn_teacher_unpadded",
    "onecycle": "linear",
}


def check_key(key: str, config: DictConfig, groups: Sequence[str]) -> None:
    """Check that a key is known to the config or to a signature in it.

    Args:
        key: The dotted key of an override.
        config: The composed config without values.
        groups: Names of the config groups, for suggestions.

    Raises:
        UsageError: If the key is unknown.
    """
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node.keys():  # noqa: SIM118 ("in" is False for a ???)
            known = accepted_parameters(node) if isinstance(node, DictConfig) else {}
            # A name that is similar to a known one is a typo, even where any other name would be accepted.
            similar = difflib.get_close_matches(part, [*known, *map(str, node)], n=1, cutoff=0.7) if known else []
            if part in known or part in _HYDRA_KEYWORDS or (ANY_NAME in known and not similar):
                return
            raise UsageError(f"{key or repr(key)}: no such key{did_you_mean(key, [*groups, *_all_keys(config)])}")
        node = None if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part) else node[part]


def recipe_keys_without_use(config: DictConfig, typed: Sequence[str]) -> set[str]:
    """Return the keys under `data` that the recipes set, and that a data module of your own does not accept.

    Args:
        config: The composed config.
        typed: The keys that were typed, which are never returned.

    Returns:
        The dotted keys.
    """
    accepted = accepted_parameters(config.data) if "data" in config else {ANY_NAME: Any}
    return {
        f"data.{name}"
        for name in RECIPE_DATA_KEYS
        if name not in accepted
        and ANY_NAME not in accepted
        and not any(key == f"data.{name}" or key.startswith(f"data.{name}.") for key in typed)
    }


def check_types(config: DictConfig, skip: Collection[str] = ()) -> None:
    """Check every key and value of a config against the signatures of its classes.

    Args:
        config: The composed config.
        skip: Dotted keys that are not checked.

    Raises:
        UsageError: If a `_target_` does not accept a key, or a value has another type.
    """
    for path, node in _iter_nodes(config):
        known = accepted_parameters(node)
        for name, value in _to_dict(node).items() if known else ():
            if f"{path}.{name}" in skip:
                continue
            key = _origin_key(node, path, name)
            if name not in known and ANY_NAME not in known and name not in _HYDRA_KEYWORDS:
                raise UsageError(f"{key}: no such key{did_you_mean(key, [f'{path}.{other}' for other in known])}")
            if not matches_type(value, known.get(name, Any)):
                text = "null" if value is None else value
                options = [option for option in get_args(known[name]) if isinstance(option, str)]
                hint = did_you_mean(value, options) if isinstance(value, str) else ""
                raise UsageError(f"{key}={text}: must be {formatannotation(known[name])}{hint}")


def check_targets(content: Any) -> None:
    """Check that every `_target_` in a config is a part of an experiment.

    Args:
        content: The config as plain containers, interpolations resolved.

    Raises:
        UsageError: If a `_target_` names anything else that could be imported.
    """
    if isinstance(content, dict) and "_target_" in content:
        resolve_target(str(content["_target_"]))
    children = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    for child in children:
        check_targets(child)


def find_key(argument: str, value: object, config: DictConfig) -> str:
    """Find the key that sets an argument of a class.

    Args:
        argument: Name of the argument.
        value: Its value.
        config: The composed config.

    Returns:
        The dotted key, such as "optimizer.lr" for the argument "lr"; the name itself if no class in the config has such
        an argument.
    """
    candidates = [(path, node) for path, node in _iter_nodes(config) if argument in accepted_parameters(node)]
    given = [(path, node) for path, node in candidates if argument in node]
    for path, node in [each for each in given if each[1][argument] == value] or given or candidates:
        return _origin_key(node, path, argument)
    return argument


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Suggest a known name.

    Args:
        wrong: The name that was typed.
        known: The names that exist. A key that was typed without its node is found by its last part.

    Returns:
        Text to append to an error message; empty if no name is similar.
    """
    known = list(dict.fromkeys(known))
    last = wrong.rpartition(".")[2]
    nearest = [_RENAMED[wrong]] if _RENAMED.get(wrong) in known else []
    nearest = nearest or [name for name in known if name.rpartition(".")[2] == last and "." in name]
    nearest = nearest or difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"; did you mean {' or '.join(nearest[:3])}?" if nearest else ""


def _iter_nodes(config: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield all mappings in a config but Hydra's own, with their dotted paths."""
    if isinstance(config, DictConfig):
        yield path, config
    names: Iterable[Any] = config.keys() if isinstance(config, DictConfig) else range(len(config))
    for name in names:
        is_hydra = name == "hydra" and not path
        if is_hydra or OmegaConf.is_interpolation(config, name) or OmegaConf.is_missing(config, name):
            continue
        if isinstance(config[name], DictConfig | ListConfig):
            yield from _iter_nodes(config[name], f"{path}.{name}".lstrip("."))


def _all_keys(config: DictConfig) -> list[str]:
    keys = [(path, str(name)) for path, node in _iter_nodes(config) for name in [*node, *accepted_parameters(node)]]
    return [f"{path}.{name}".lstrip(".") for path, name in keys if name not in (*_HYDRA_KEYWORDS, ANY_NAME)]


def _to_dict(node: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def _origin_key(node: DictConfig, path: str, name: str) -> str:
    """Return the key that a message should name: the interpolated key, where a value comes from another one."""
    raw = OmegaConf.to_container(node, resolve=False)
    text = raw.get(name) if isinstance(raw, dict) else None
    interpolation = re.fullmatch(r"\$\{([\w.]+)\}", text) if isinstance(text, str) else None
    return interpolation[1] if interpolation else f"{path}.{name}".lstrip(".")
