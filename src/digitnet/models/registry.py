"""The networks that a checkpoint may name: every subclass of DigitClassifier whose module was imported.

A file never causes an import. A module is imported because the user named it (`import_modules`), or because an
installed package declares it in the entry point group "digitnet.models".
"""

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitnet.errors import UsageError, check_argument

if TYPE_CHECKING:
    from digitnet.models.classifier import DigitClassifier

ENTRY_POINT_GROUP = "digitnet.models"

MODELS: dict[str, type["DigitClassifier"]] = {}
"""The known networks by the name under which a checkpoint stores them; no other class is built from a file."""


def model_name(model_class: type) -> str:
    """Return the name under which a checkpoint stores a network.

    Args:
        model_class: The class of the network.

    Returns:
        The name of the class for the networks of digitnet, such as "CNN"; the name with its module for all others, such
        as "mynets.MyResNet", so that two of the same name are not confused.
    """
    is_own = model_class.__module__.partition(".")[0] == "digitnet"
    return model_class.__name__ if is_own else f"{model_class.__module__}.{model_class.__qualname__}"


def register(model_class: type["DigitClassifier"]) -> None:
    """Add a class to `MODELS`. One that is defined again, such as in a notebook, replaces its predecessor."""
    MODELS[model_name(model_class)] = model_class


def find_model(name: object) -> type["DigitClassifier"] | None:
    """Return the network that a file names.

    A name without a module (in a file of digitnet 0.1.0) and a name in a script or notebook (`__main__`) do not state
    where the class is. They stand for the only class of that name outside digitnet, if there is only one.

    Args:
        name: The name in the file, of any type.

    Returns:
        The class, or None if it is not known.
    """
    _import_entry_points()
    if not isinstance(name, str):
        return None
    if name in MODELS:
        return MODELS[name]
    suffix = f".{name.removeprefix('__main__.')}"
    same_name = [model for known, model in MODELS.items() if "." not in suffix[1:] and known.endswith(suffix)]
    return same_name[0] if len(same_name) == 1 else None


def import_modules(names: str | Sequence[str] | None, option: str = "imports") -> None:
    """Import the modules that the user has named, which registers their networks.

    The current folder is searched first, as `python -m` does it.

    Args:
        names: Names of modules, such as "mynets" or "mypackage.networks", or a single name.
        option: The option that was typed, for the error message.

    Raises:
        UsageError: If a module cannot be imported.
    """
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    listed: Any = () if names is None else names if is_list else [names]
    for name in listed:
        is_name = isinstance(name, str) and all(map(str.isidentifier, name.split("."))) and not name.endswith(".py")
        check_argument(is_name, option, name, "the name of a module, such as mynets for the file mynets.py")
        if name in sys.modules:
            continue
        if Path.cwd() not in map(Path.absolute, map(Path, sys.path)):
            sys.path.insert(0, str(Path.cwd()))
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"{option}={name}: cannot be imported from the current folder or an installed package ({reason})"
            ) from error


@functools.cache
def _import_entry_points() -> None:
    """Import what installed packages declare as their networks.

    Packages in the current folder are left out: it may be a folder that was downloaded.
    """
    folders = [folder for folder in sys.path if Path(folder).absolute() != Path.cwd()]
    for distribution in metadata.distributions(path=folders):
        for entry_point in distribution.entry_points.select(group=ENTRY_POINT_GROUP):
            try:
                entry_point.load()
            except Exception as error:
                package = distribution.metadata["Name"]
                raise UsageError(
                    f"the installed package {package} declares the network {entry_point.value}, which cannot be "
                    f"imported ({type(error).__name__}: {error}); repair or uninstall the package"
                ) from error
