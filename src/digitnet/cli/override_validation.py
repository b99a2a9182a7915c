"""Checks overrides against the signatures of the classes that they configure, before anything is created.

A config file holds decisions only. Which other keys a node may have, and of which types, follows from the signature of
its `_target_`. So `trainer.precision=bf16-mixed` needs neither a `+` nor a line of YAML, and `trainer.max_epoch=3` is
answered with "did you mean trainer.max_epochs?".
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf

from digitnet.cli.signatures import ANY_NAME, accepted_parameters, matches_type, resolve_target
from digitnet.cli.source_types import source_parameters
from digitnet.cli.suggestions import did_you_mean
from digitnet.cli.type_words import describe_type
from digitnet.errors import UsageError

ParametersOf = Callable[[DictConfig], dict[str, Any]]

# The keys under `data` that the recipes of the models set. A data module of your own need not accept them.
_RECIPE_DATA_KEYS = ("batch_size", "val_size", "train_size", "seed", "augmentation")

_HYDRA_KEYWORDS = ("_target_", "_convert_", "_partial_", "_recursive_")

# Groups whose options are set below another key: what users of other templates type, and the key here.
_GROUP_NODES = {"callbacks": "trainer.callbacks", "logger": "trainer.logger", "augmentation": "data.augmentation"}

_NODE_GROUPS = {node: group for group, node in _GROUP_NODES.items()}


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
            known = known_parameters(node) if isinstance(node, DictConfig) else {}
            # A name that is similar to a known one is a typo, even where any other name would be accepted.
            similar = difflib.get_close_matches(part, [*known, *map(str, node)], n=1, cutoff=0.7) if known else []
            if part in known or part in _HYDRA_KEYWORDS or (ANY_NAME in known and not similar):
                return
            raise UsageError(f"{key or repr(key)}: no such key{_suggest_key(key, config, groups)}")
        node = None if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part) else node[part]


def read_parameters(node: DictConfig) -> dict[str, Any]:
    """Return the arguments that the `_target_` of a config node accepts, without importing it.

    Args:
        node: The node.

    Returns:
        Types by name, as `accepted_parameters` returns them. Empty if the source code does not show them.
    """
    return (source_parameters(str(node._target_)) or {}) if "_target_" in node else {}


def known_parameters(node: DictConfig) -> dict[str, Any]:
    """Return the arguments that the `_target_` of a config node accepts, which is imported only if that is necessary.

    Args:
        node: The node.

    Returns:
        Types by name, as `accepted_parameters` returns them.

    Raises:
        UsageError: If the `_target_` is imported, and is not a part of an experiment.
    """
    return read_parameters(node) or accepted_parameters(node)


def _suggest_key(key: str, config: DictConfig, groups: Sequence[str]) -> str:
    """Suggest a key in place of an unknown one."""
    group, _, rest = key.partition(".")
    if rest and group in _GROUP_NODES:
        return f"; did you mean {_GROUP_NODES[group]}.{rest}?"
    return did_you_mean(key, [*groups, *_all_keys(config)])


def recipe_keys_without_use(
    config: DictConfig, typed: Sequence[str], parameters_of: ParametersOf = accepted_parameters
) -> set[str]:
    """Return the keys under `data` that the recipes set, and that a data module of your own does not accept.

    Args:
        config: The composed config.
        typed: The keys that were typed, which are never returned.
        parameters_of: Returns the arguments of a node's class.

    Returns:
        The dotted keys.
    """
    accepted = parameters_of(config.data) if "data" in config else {}
    if not accepted or ANY_NAME in accepted:
        return set()
    typed_names = {key.split(".")[1] for key in typed if key.startswith("data.")}
    return {f"data.{name}" for name in _RECIPE_DATA_KEYS if name not in accepted and name not in typed_names}


def check_types(
    config: DictConfig, parameters_of: ParametersOf = accepted_parameters, skip: Collection[str] = ()
) -> None:
    """Check every key and value of a config against the signatures of its classes.

    Args:
        config: The composed config.
        parameters_of: Returns the arguments of a node's class: `read_parameters` is fast, because it imports nothing;
            `accepted_parameters` imports the class.
        skip: Dotted keys that are not checked.

    Raises:
        UsageError: If a `_target_` does not accept a key, or a value has another type.
    """
    for path, node in _iter_nodes(config):
        known = parameters_of(node)
        for name, value in _to_dict(node).items() if known else ():
            if f"{path}.{name}" in skip:
                continue
            key = _origin_key(node, path, name)
            if name not in known and ANY_NAME not in known and name not in _HYDRA_KEYWORDS:
                raise UsageError(f"{key}: no such key{did_you_mean(key, [f'{path}.{other}' for other in known])}")
            if not matches_type(value, known.get(name, Any)):
                text = "null" if value is None else value
                options = [option for option in _iter_arguments(known[name]) if isinstance(option, str)]
                hint = did_you_mean(value, options) if isinstance(value, str) else ""
                if key in _NODE_GROUPS and isinstance(value, str):
                    hint = f"; did you mean {_NODE_GROUPS[key]}={value}?"
                raise UsageError(f"{key}={text}: must be {describe_type(known[name])}{hint}")


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
    """Return every key that can be set; in place of an interpolated key, the one that it takes its value from."""
    keys = [(node, path, str(name)) for path, node in _iter_nodes(config) for name in [*node, *known_parameters(node)]]
    names = []
    for node, path, name in keys:
        origin = _origin_key(node, path, name)
        names.append(origin if "." in origin else f"{path}.{name}".lstrip("."))
    return [name for name in dict.fromkeys(names) if name.rpartition(".")[2] not in (*_HYDRA_KEYWORDS, ANY_NAME)]


def _iter_arguments(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of an annotation, and the values of a Literal in it."""
    arguments = get_args(annotation)
    for each in arguments:
        yield from _iter_arguments(each)
    if not arguments:
        yield annotation


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
