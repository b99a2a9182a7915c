"""Decides which recorded overrides of a run are safe to repeat when the run folder may come from a stranger."""

import re
from typing import Any

from hydra.core.override_parser.types import Override

_TRUSTED_PACKAGES = ("digitnet.", "lightning.")
# Loggers that open connections, as options of the group "logger" and as classes: nothing is sent for a file's sake.
_NETWORK_LOGGERS = ("wandb", "mlflow", "WandbLogger", "MLFlowLogger", "CometLogger", "NeptuneLogger", "LitLogger")
_OPTION = re.compile(r"[\w-]*")  # the name of an option of a config group, without a path
# Text with interpolations of plain keys only: no resolver, no nesting, and no escape that would be resolved later.
_PLAIN_TEXT = re.compile(r"(\$\{[\w.]+\}|[^$\\])*")


def is_trusted(override: Override) -> bool:
    """Return whether a recorded override cannot make this process import or call code of the record's author.

    Each override is judged by itself and literally. What a composed config contains depends on the order of the
    overrides, on the environment and on when interpolations are resolved, so a decision on it could be evaded.

    Args:
        override: The parsed override.

    Returns:
        False if it configures Hydra, imports a module, moves the run folder, sweeps, loads a config file by a path,
        contains anything but plain interpolations, names a class from outside digitnet and Lightning, or chooses a
        logger that sends what it logs to a server.
    """
    key, value = override.key_or_group, override.value()
    if key.startswith(("hydra", "imports")) or key == "run_dir":
        return False
    if override.package is not None or override.is_sweep_override():
        return False
    if "." not in key and not _is_option(value):  # the key may be a config group
        return False
    if key == "logger" and any(name in _NETWORK_LOGGERS for name in (value if isinstance(value, list) else [value])):
        return False
    return _is_plain(key.rpartition(".")[2], value)


def _is_option(value: Any) -> bool:
    """Return whether a value of a top-level key cannot be the path of a config file."""
    names = value if isinstance(value, list) else [value]
    return all(not isinstance(name, str) or bool(_OPTION.fullmatch(name)) for name in names)


def _is_plain(name: str, value: Any) -> bool:
    """Return whether a value has plain interpolations only, and names trusted classes only."""
    if name == "_target_":
        is_text = isinstance(value, str) and "$" not in value and value.startswith(_TRUSTED_PACKAGES)
        return is_text and value.rpartition(".")[2] not in _NETWORK_LOGGERS
    if isinstance(value, dict):
        return all(_is_plain(str(key), item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain("", item) for item in value)
    return not isinstance(value, str) or bool(_PLAIN_TEXT.fullmatch(value))
