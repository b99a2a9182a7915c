"""Which arguments the classes in a config accept, and of which types."""

import inspect
import pkgutil
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig

from digitnet.errors import UsageError

ANY_NAME = "**"  # the name of a parameter that stands for any other name


def accepted_parameters(node: DictConfig) -> dict[str, Any]:
    """Return the arguments that the `_target_` of a config node accepts.

    Arguments that a class passes on to its parent by `**kwargs` are included.

    Args:
        node: The node.

    Returns:
        Annotations by name. `ANY_NAME` is included if any other name is accepted as well. Empty without a `_target_`.

    Raises:
        UsageError: If the `_target_` is not a part of an experiment.
    """
    if "_target_" not in node:
        return {}
    found: dict[str, Any] = {}
    for function in _init_chain(resolve_target(node._target_)):
        signature = inspect.signature(function)
        try:
            hints = get_type_hints(function)
        except NameError:  # annotations that exist for type checkers only, such as those of WandbLogger
            hints = {}
        named = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        found = {name: hints.get(name, Any) for name in named if name != "self"} | found
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            return found
    return found | {ANY_NAME: Any}


def _init_chain(target: Any) -> list[Callable[..., Any]]:
    """Return the `__init__` of a class and of its parents; a function is returned as it is."""
    if not inspect.isclass(target):
        return [target]
    return [vars(parent)["__init__"] for parent in target.__mro__ if "__init__" in vars(parent)]


def resolve_target(name: str) -> Any:
    """Import the class that a `_target_` names.

    Args:
        name: The dotted name.

    Returns:
        The class, which is a part of an experiment: a model, data module, callback, logger or part of a Trainer.

    Raises:
        UsageError: If the name cannot be imported, or names anything else.
    """
    import lightning.pytorch as L
    import torch.nn
    from lightning.fabric.plugins import ClusterEnvironment
    from lightning.pytorch import accelerators, loggers, plugins, profilers, strategies

    from digitnet.checkpoints.pretrained import load_ensemble
    from digitnet.data import Augmentation
    from digitnet.models import Distillation

    components = (L.LightningModule, L.LightningDataModule, L.Trainer, Augmentation, Distillation)
    hardware = (accelerators.Accelerator, strategies.Strategy, ClusterEnvironment, plugins.Precision, plugins.LayerSync)
    kinds = (*components, *hardware, L.Callback, loggers.Logger, profilers.Profiler, plugins.CheckpointIO)
    try:
        target = pkgutil.resolve_name(name)
    except Exception as error:
        hint = "; imports=MODULE makes a module of the current folder importable"
        raise UsageError(f"_target_={name}: cannot be imported ({error}){hint}") from error
    if target is not load_ensemble and not (inspect.isclass(target) and issubclass(target, kinds)):
        wanted = "is not a model, data module, callback, logger or other part of a Trainer"
        if inspect.isclass(target) and issubclass(target, torch.nn.Module):
            wanted = "is a torch module, but a model must be a subclass of digitnet.DigitClassifier"
        raise UsageError(f"_target_={name}: {wanted}")
    return target


def matches_type(value: Any, annotation: Any) -> bool:
    """Return whether a value from YAML fits an annotation.

    Args:
        value: The value, as plain containers. A mapping with a `_target_` fits every annotation. A mapping from names
            of the user's choice to such mappings fits where a list of them does.
        annotation: The annotation of an argument.

    Returns:
        Whether the value can be passed.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(value, dict) and is_named_components(value):
        parts = [part for part in value.values() if part is not None]
        return matches_type(parts, annotation) or annotation is Any or dict in (origin, annotation)
    if annotation is Any or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (Union, UnionType):
        return any(matches_type(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if annotation in (None, NoneType):
        return value is None
    if isinstance(value, bool) or annotation is bool:
        return isinstance(value, bool) and annotation is bool
    if annotation is float:
        return isinstance(value, int | float)
    if isinstance(value, list):
        item_types = [argument for argument in arguments if argument is not Ellipsis]
        return _accepts_list(origin or annotation) and all(
            matches_type(item, item_types[0]) for item in value if item_types
        )
    if isinstance(value, str):
        return annotation is str or hasattr(annotation, "__fspath__")
    return isinstance(value, origin or annotation)


def is_named_components(node: dict[str, Any]) -> bool:
    """Return whether a mapping names several objects to build, such as the callbacks of a Trainer."""
    parts = [part for part in node.values() if part is not None]
    are_components = all(isinstance(part, dict) and "_target_" in part for part in parts)
    return "_target_" not in node and bool(parts) and are_components


def _accepts_list(kind: Any) -> bool:
    return (inspect.isclass(kind) and issubclass(list, kind)) or kind is tuple
