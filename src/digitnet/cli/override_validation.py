"""Checks what a command is told against the signatures of what it configures, before anything is made.

A config file holds decisions only; which other keys a node may have, and of which types, its `_target_` knows. So
`trainer.precision=bf16-mixed` needs neither a `+` nor a line of YAML, and `trainer.max_epoch=3` gets "did you mean".
"""

import difflib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

from digitnet.errors import UsageError

CONFIG_WORDS = ("_target_", "_convert_", "_partial_", "_recursive_")


def check_key(key: str, config: DictConfig, groups: Sequence[str]) -> None:
    """Raises UsageError if neither the config nor a signature in it knows the key."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node.keys():  # noqa: SIM118 ("in" denies a ???)
            known = parameters(node) if isinstance(node, DictConfig) else {}
            # Nearly a name that is known is a typo, even where any other name would do.
            free = "**" in known and not difflib.get_close_matches(part, [*known, *map(str, node)], n=1, cutoff=0.7)
            if part in known or free or part in CONFIG_WORDS:
                return
            raise UsageError(f"{key or repr(key)}: no such key{suggest(key, [*groups, *all_keys(config)])}")
        node = None if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part) else node[part]


def check_types(config: DictConfig) -> None:
    """Raises UsageError for a key that a `_target_` does not take, or a value of another type."""
    for path, node in nodes(config):
        known = parameters(node)
        for name, value in plain(node).items() if known else ():
            key = source(node, path, name)
            if name not in known and "**" not in known and name not in CONFIG_WORDS:
                raise UsageError(f"{key}: no such key{suggest(key, [f'{path}.{other}' for other in known])}")
            if not fits(value, known.get(name, Any)):
                raise UsageError(
                    f"{key}={'null' if value is None else value}: must be {inspect.formatannotation(known[name])}"
                )


def check_targets(content: Any) -> None:
    """Raises UsageError for a `_target_`, wherever it is, that is no part of an experiment. Takes resolved content."""
    if isinstance(content, dict) and "_target_" in content:
        part_called(str(content["_target_"]))
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    for part in parts:
        check_targets(part)


def parameters(node: DictConfig) -> dict[str, Any]:
    """Names and types that the node's `_target_` takes, also what it hands on by `**` to the class it extends.

    The name "**" says that it takes any other name as well. Empty without a `_target_`.
    """
    if "_target_" not in node:
        return {}
    found: dict[str, Any] = {}
    for function in initialisers(part_called(node._target_)):
        signature = inspect.signature(function)
        try:
            hints = get_type_hints(function)
        except NameError:  # annotations that exist for type checkers only, as those of WandbLogger
            hints = {}
        named = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        found = {name: hints.get(name, Any) for name in named if name != "self"} | found
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            return found
    return found | {"**": Any}


def part_called(name: str) -> Any:
    """What a `_target_` names: a part of an experiment; UsageError for anything else that can be imported."""
    import lightning.pytorch as L
    from lightning.fabric.plugins import ClusterEnvironment
    from lightning.pytorch import accelerators, loggers, plugins, profilers, strategies

    import digitnet
    from digitnet.checkpoints import pretrained
    from digitnet.models import Distillation

    ours = (L.LightningModule, L.LightningDataModule, L.Trainer, digitnet.Augmentation, Distillation)
    hardware = (accelerators.Accelerator, strategies.Strategy, ClusterEnvironment, plugins.Precision, plugins.LayerSync)
    kinds = (*ours, *hardware, L.Callback, loggers.Logger, profilers.Profiler, plugins.CheckpointIO)
    try:
        target = pkgutil.resolve_name(name)
    except Exception as error:
        raise UsageError(f"_target_={name}: cannot be imported") from error
    if not (target is pretrained.load_ensemble or (inspect.isclass(target) and issubclass(target, kinds))):
        raise UsageError(f"_target_={name}: is no model, data module, callback, logger or other part of a Trainer")
    return target


def initialisers(target: Any) -> list[Callable[..., Any]]:
    if not inspect.isclass(target):
        return [target]
    return [vars(parent)["__init__"] for parent in target.__mro__ if "__init__" in vars(parent)]


def nodes(config: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """All mappings below, with their dotted paths."""
    if isinstance(config, DictConfig):
        yield path, config
    names: Iterable[Any] = config.keys() if isinstance(config, DictConfig) else range(len(config))
    for name in names:
        if (
            (name == "hydra" and not path)
            or OmegaConf.is_interpolation(config, name)
            or OmegaConf.is_missing(config, name)
        ):
            continue
        if isinstance(config[name], DictConfig | ListConfig):
            yield from nodes(config[name], f"{path}.{name}".lstrip("."))


def all_keys(config: DictConfig) -> list[str]:
    keys = [(path, str(name)) for path, node in nodes(config) for name in [*node, *parameters(node)]]
    return [f"{path}.{name}".lstrip(".") for path, name in keys if name not in (*CONFIG_WORDS, "**")]


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The nearest known name; a key given without the node it is in is found by its last part."""
    known = list(known)
    last = wrong.rpartition(".")[2]
    nearest = [name for name in known if name.rpartition(".")[2] == last and "." in name]
    nearest = nearest or difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"; did you mean {' or '.join(nearest[:3])}?" if nearest else ""


def plain(node: DictConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def source(node: DictConfig, path: str, name: str) -> str:
    """The key to name in a message: where a value is taken over from another key, that one."""
    raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]
    taken_over = re.fullmatch(r"\$\{([\w.]+)\}", raw) if isinstance(raw, str) else None
    return taken_over[1] if taken_over else f"{path}.{name}".lstrip(".")


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value from YAML can be what the annotation says; a mapping with a `_target_` may become anything."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if annotation in (None, NoneType):
        return value is None
    if isinstance(value, bool) or annotation is bool:
        return isinstance(value, bool) and annotation is bool
    if annotation is float:
        return isinstance(value, int | float)
    if isinstance(value, list):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return is_sequence(origin or annotation) and all(fits(item, inner[0]) for item in value if inner)
    if isinstance(value, str):
        return annotation is str or hasattr(annotation, "__fspath__")
    return isinstance(value, origin or annotation)


def is_sequence(kind: Any) -> bool:
    return (inspect.isclass(kind) and issubclass(list, kind)) or kind is tuple
