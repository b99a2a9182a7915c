"""How the commands that take options behave, as those of Hydra do: one line says what is wrong, the status the rest.

0 done; 1 failed while running; 2 the input is wrong; 130 interrupted, 143 terminated, 141 nobody reads the output.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from digitnet import signals
from digitnet.errors import RunError, UsageError


class Parser(argparse.ArgumentParser):
    """Wrong options are a UsageError; argparse itself would print its usage first."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def run(parser: Parser, task: Callable[[argparse.Namespace], Any]) -> None:
    """Runs `task` on the options of the command line; returns only if it did."""
    try:
        with signals.handled():
            task(parser.parse_args())
            signals.stop()
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at its end
        sys.exit(141)
    except (UsageError, RunError, OSError) as error:
        tell(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)


def tell(message: str) -> None:
    sys.stderr.write(f"digitnet: error: {' '.join(message.split())}\n")
