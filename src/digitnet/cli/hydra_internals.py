"""The private parts of Hydra that digitnet needs, in one place; pyproject.toml caps Hydra's version for their sake."""

from argparse import Namespace
from collections.abc import Sequence

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
