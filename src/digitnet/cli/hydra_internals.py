"""The private parts of Hydra that digitnet needs, in one place; pyproject.toml caps Hydra's version for their sake."""

import difflib
import io
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, NoReturn

from hydra._internal import config_loader_impl
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override

from digitnet.cli.suggestions import known_alias
from digitnet.errors import UsageError

_EXCLUSIVE = ("run", "multirun", "cfg", "info", "shell_completion")
_TYPED_LAST = ("optimizer", "schedule", "augmentation")


def _create_ordered_defaults_list(*args: Any, **options: Any) -> DefaultsList:
    """Create Hydra's defaults list, and merge the options that were typed for some groups after all presets.

    Hydra lets a preset choose only from groups that precede it, so that the values of the preset take precedence over
    its choice. In the same place, an option that is typed would lose its values to the preset, without a word.
    """
    created = create_defaults_list(*args, **options)
    metadata = created.overrides.override_metadata
    is_typed = {key: key in metadata and metadata[key].external_override for key in _TYPED_LAST}
    created.defaults.sort(key=lambda item: is_typed.get(item.override_key or "", False))  # the sort is stable
    return created


config_loader_impl.create_defaults_list = _create_ordered_defaults_list  # type: ignore[attr-defined]


def parse_command_line(arguments: Sequence[str]) -> Namespace:
    """Separate Hydra's own options from the overrides; Hydra has no public function for that.

    Args:
        arguments: The command line, without the program.

    Returns:
        Hydra's options; `overrides` has the rest.

    Raises:
        UsageError: If there is an option that Hydra does not have, or two that exclude each other.
    """
    parser = get_args_parser()

    def fail(message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")

    parser.error = fail  # type: ignore[method-assign]
    options, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise UsageError(_answer_unknown_option(unknown[0], list(parser._option_string_actions), options.overrides))
    given = [f"--{name.replace('_', '-')}" for name in _EXCLUSIVE if getattr(options, name)]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]}: only one of them is possible")
    return options


def _answer_unknown_option(option: str, known: list[str], words: list[str]) -> str:
    """Return a message that names what was probably meant: an option, or a value, which has no dashes."""
    dashed, _, value = option.partition("=")
    key = known_alias(dashed.lstrip("-"))
    if not key and (similar := difflib.get_close_matches(dashed, [*known, "--help-all"], n=1, cutoff=0.7)):
        return f"{option}: no such option; did you mean {similar[0]}?"
    key = key or dashed.lstrip("-").replace("-", "_")
    value = value or next((word for word in words if "=" not in word), "VALUE")
    override = key if "=" in key else f"{key}={value}"
    return f"{option}: no such option; values are set without dashes, such as {override}"


def split_sweep(overrides: list[Override]) -> list[list[str]]:
    """Return the overrides of each job that Hydra's own sweeper will start, to check them before the first one starts.

    Args:
        overrides: The overrides of the sweep, such as `seed=1,2`.

    Returns:
        The overrides of each job, such as `[["seed=1"], ["seed=2"]]`.
    """
    jobs: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
    return jobs


class _BashCompletion(BashCompletion):
    """Hydra's completion for a command that is not the running program."""

    command = ""

    @staticmethod
    def _get_exec() -> str:
        return _BashCompletion.command


def hydra_completion_script(command: str) -> str:
    """Return Hydra's script that completes a command in bash, as `COMMAND --shell-completion install=bash` prints it.

    Args:
        command: Name of the command.
    """
    _BashCompletion.command = command
    output = io.StringIO()
    with redirect_stdout(output):
        _BashCompletion.install(object.__new__(_BashCompletion))  # its constructor wants a composed config
    return output.getvalue()
