"""How the commands with options behave, in the same way as the Hydra commands: one line for an error, and a status.

Status 0: done. 1: failed while running. 2: the input is wrong. 130: interrupted, 143: terminated, 138: SIGUSR1.
141: the program that reads the output has closed it.
"""

import argparse
import difflib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from digitnet.checkpoints.latest import expand_latest
from digitnet.cli.matplotlib_guard import prepare_matplotlib
from digitnet.errors import RunError, UnknownModelError, UsageError
from digitnet.signals import install_handlers, raise_if_pending

RENAMED_OPTIONS = {"--run": "--model", "--sheet": "--contact-sheet", "--test-digits": "--test-samples"}
"""Options of version 0.1.0 and their present names."""


class CliParser(argparse.ArgumentParser):
    """A parser that raises UsageError for wrong options, where argparse would print its usage and exit.

    Its help starts with examples, and fits a terminal of 24 lines of 80 characters; `--help-all` adds the usage and the
    details. It has the option `--version` as well.

    Args:
        examples: Command lines, without the program, and what they do.
        details: Text that only `--help-all` shows.
        **kwargs: Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, examples: Mapping[str, str] | None = None, details: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs, add_help=False, formatter_class=_HelpFormatter)
        self.details = details
        self.examples = {f"{self.prog} {arguments}".rstrip(): text for arguments, text in (examples or {}).items()}
        self.add_argument("-h", "--help", action="help", help="show this help; --help-all shows the usage as well")
        self.add_argument("--help-all", action="help", help=argparse.SUPPRESS)
        self.add_argument("--version", action="version", version=version_line(), help="show the version")

    def format_help(self) -> str:
        """Return the description and the examples, followed by argparse's list of options."""
        width = max(map(len, self.examples), default=0)
        examples = [f"  {line:<{width}}  {text}" for line, text in self.examples.items()]
        shows_all = "--help-all" in sys.argv
        description, usage = self.description, self.usage
        self.description, self.usage = None, usage if shows_all else argparse.SUPPRESS
        try:
            options = super().format_help()
        finally:
            self.description, self.usage = description, usage
        text = f"{description or ''} {self.details if shows_all else ''}"
        return "\n".join([textwrap.fill(text, 79), "", *examples, "", options.lstrip()])

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's message, or with the present name of an option that was renamed."""
        for argument in sys.argv[1:]:
            old = argument.partition("=")[0]
            if RENAMED_OPTIONS.get(old) in self._option_string_actions:
                raise UsageError(f"unrecognized arguments: {old}; did you mean {RENAMED_OPTIONS[old]}?")
            if old.startswith("--") and old not in self._option_string_actions and "unrecognized" in message:
                similar = difflib.get_close_matches(old, self._option_string_actions, n=1)
                raise UsageError(f"{old}: no such option; {f'did you mean {similar[0]}?' if similar else 'see --help'}")
        raise UsageError(f"{message}; see --help")


class _HelpFormatter(argparse.HelpFormatter):
    """argparse's formatter, with less space between the names of the options and their descriptions."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=79)


def add_import_option(parser: CliParser) -> None:
    """Add the option `--import MODULE`, which makes the networks of a module known; `run_command` imports it."""
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="module with a network of your own; may be repeated",
    )


def add_data_root_option(parser: CliParser) -> None:
    """Add the option `--data-root DIR`, the folder of the data that a model was trained on."""
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of the data that the model was trained on (default: where it was at the training)",
    )


def version_line() -> str:
    """Return what `--version` prints."""
    return f"digitnet {version('digitnet')}"


def model_reference(reference: str) -> str:
    """Return a model reference in which "latest" is replaced by the run folder, for `add_argument(type=...)`."""
    try:
        return expand_latest(reference, "--model")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run_command(parser: CliParser, command: Callable[[argparse.Namespace], Any]) -> None:
    """Parse the command line and run a command.

    Args:
        parser: Parses the command line.
        command: Does the work, given the options.

    Raises:
        SystemExit: If the command does not end with status 0.
    """
    prepare_matplotlib()
    try:
        with exit_if_output_is_closed(), install_handlers():
            options = parser.parse_args()
            if getattr(options, "imports", None):
                from digitnet.models.registry import import_modules  # imports torch

                import_modules(options.imports, "--import")
            command(options)
            raise_if_pending()
    except (UsageError, RunError, OSError) as error:
        print_error(error.with_remedy("add --import {}") if isinstance(error, UnknownModelError) else str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)


@contextmanager
def exit_if_output_is_closed() -> Iterator[None]:
    """End with status 141, and without a message, if the program that reads the output of the block has closed it.

    Yields:
        Nothing.

    Raises:
        SystemExit: With status 141.
    """
    try:
        try:
            yield
        finally:
            flush_output()
    except BrokenPipeError:
        sys.exit(141)


def flush_output() -> None:
    """Write what is buffered, here, where a full disk or a closed pipe can still be reported.

    Raises:
        OSError: If the output cannot be written. It is then discarded: Python would report it once more at exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def print_error(message: str) -> None:
    """Print an error message as one line on stderr.

    Args:
        message: The message. White space is folded, and characters that would control a terminal are escaped.
    """
    line = " ".join(message.split())
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    sys.stderr.write(f"digitnet: error: {printable}\n")
