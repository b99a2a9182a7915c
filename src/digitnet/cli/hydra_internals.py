"""The private parts of Hydra that digitnet needs, in one place; pyproject.toml caps Hydra's version for their sake."""

import io
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override


def parse_command_line(arguments: Sequence[str]) -> Namespace:
    """Separate Hydra's own options from the overrides; Hydra has no public function for that.

    Args:
        arguments: The command line, without the program.

    Returns:
        Hydra's options; `overrides` has the rest.
    """
    return get_args_parser().parse_intermixed_args(arguments)


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
