"""How the Hydra commands behave: the input is checked before anything is created, and the exit status is meaningful.

Status 0: done. 1: failed while running. 2: the input is wrong, and one line states what, where and what to do.
130: interrupted, 143: terminated, 138: SIGUSR1; the state of a training run is saved.
"""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from digitnet.cli.argparse_app import exit_if_output_is_closed, flush_output, print_error, version_line
from digitnet.cli.command_line import ExpandOverrides, Validator, validate_command_line, with_config_key
from digitnet.cli.matplotlib_guard import prepare_matplotlib
from digitnet.distributed import is_main_process, reports_usage_errors
from digitnet.errors import ArgumentError, RunError, UnknownModelError, UsageError
from digitnet.signals import install_handlers

USAGE_ERRORS = (UsageError, HydraException, OmegaConfBaseException)
EXPECTED_ERRORS = (*USAGE_ERRORS, RunError, OSError)

Failures = list[tuple[str, Exception]]


def run_hydra_app(
    config_name: str,
    run_job: Callable[[DictConfig], Any],
    validate: Validator,
    expand_overrides: ExpandOverrides | None = None,
    lock: Callable[[list[DictConfig]], AbstractContextManager[None]] | None = None,
) -> None:
    """Run a command under Hydra, after every job of it was checked.

    Args:
        config_name: Name of the primary config in `configs`.
        run_job: Does the work of one job.
        validate: Checks the config of a job, Hydra's own node included. It raises UsageError for wrong input, and
            creates nothing.
        expand_overrides: Replaces the overrides that were typed, before they are composed; see `ExpandOverrides`.
        lock: Holds what the jobs write to, from before Hydra's first file until the end.

    Raises:
        SystemExit: If the command does not end with status 0.
    """
    with exit_if_output_is_closed():
        if "--version" in sys.argv[1:]:
            print(version_line())
            return
        if sys.argv[1:] in (["--help"], ["-h"]):
            _print_help(config_name)
            return
    prepare_matplotlib()
    sys.argv[1:] = _expand_help_all(sys.argv[1:], config_name)
    show_traceback = _wants_traceback()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of exiting with status 1 for all of them
    failures: Failures = []
    try:
        with install_handlers():
            sys.argv[1:], configs = validate_command_line(sys.argv[1:], config_name, validate, expand_overrides)
            job = _collect_failures(failures, run_job)
            with lock(configs) if lock and configs else nullcontext():
                call_hydra(config_name, job)
            flush_output()
    except Exception as error:
        if not failures and not isinstance(error, EXPECTED_ERRORS):
            raise
        failures = failures or [("", error)]
    finally:  # also after a signal
        is_usage_error = bool(failures) and isinstance(failures[0][1], USAGE_ERRORS) and not failures[0][0]
        if not is_usage_error or reports_usage_errors():
            _print_failures(failures, show_traceback)
    if failures:
        sys.exit(2 if is_usage_error else 1)


def call_hydra(config_name: str, job: Callable[..., Any]) -> None:
    """Let Hydra parse `sys.argv`, write its records to the run folder, and call a job.

    Args:
        config_name: Name of the primary config in `configs`.
        job: Is called with the composed config.
    """
    hydra.main(version_base="1.3", config_path="pkg://digitnet.configs", config_name=config_name)(job)()


def _print_help(config_name: str) -> None:
    """Print the help of a command as Hydra would, which composes the whole config first."""
    if is_main_process():
        text = files("digitnet.configs").joinpath(f"hydra/help/{config_name}.yaml").read_text()
        print(OmegaConf.select(OmegaConf.create(text), "template"))


def _wants_traceback() -> bool:
    """Return whether the user has asked for tracebacks. Lightning's child processes inherit what is set below."""
    return bool(os.environ.get("HYDRA_FULL_ERROR")) and is_main_process()


@contextmanager
def exit_with_status() -> Iterator[None]:
    """Report an error of the block by one line and the exit status; a signal ends the block as it ends a run.

    Yields:
        Nothing.

    Raises:
        SystemExit: With status 2 for wrong input, or 1 for a failure while running.
    """
    show_traceback = _wants_traceback()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with install_handlers():
            yield
    except EXPECTED_ERRORS as error:
        is_usage_error = isinstance(error, USAGE_ERRORS)
        if not is_usage_error or reports_usage_errors():
            _print_failures([("", error)], show_traceback)
        sys.exit(2 if is_usage_error else 1)


def _expand_help_all(arguments: list[str], config_name: str) -> list[str]:
    """Replace `--help-all` by Hydra's `--help` with the template of all values."""
    if "--help-all" not in arguments:
        return arguments
    return [
        *(argument for argument in arguments if argument != "--help-all"),
        "--help",
        f"hydra/help={config_name}_all",
    ]


def _collect_failures(failures: Failures, run_job: Callable[[DictConfig], Any]) -> Callable[..., Any]:
    """Record which jobs fail and why: Hydra continues a sweep and reports the first failure only (#2284)."""

    @functools.wraps(run_job)
    def job(config: DictConfig) -> Any:
        try:
            return run_job(config)
        except Exception as error:
            hydra_config = HydraConfig.get()
            in_sweep = hydra_config.mode == RunMode.MULTIRUN
            if not in_sweep and not isinstance(error, EXPECTED_ERRORS):
                raise
            override_text = " ".join(override.lstrip("+") for override in hydra_config.overrides.task)
            name = f"job {hydra_config.job.num} ({override_text}): " if in_sweep else ""
            failure = with_config_key(error, config) if isinstance(error, ArgumentError) else error
            failures.append((name, failure))
            if in_sweep:
                raise  # a sweeper may use it; outside a sweep Hydra would print it once more

    return job


def _print_failures(failures: Failures, show_traceback: bool) -> None:
    """Print one line for each failure, after a traceback if it was asked for or the error was not expected."""
    for name, failure in failures:
        if show_traceback or not isinstance(failure, EXPECTED_ERRORS):
            traceback.print_exception(failure)
        text = failure.with_remedy("add imports={}") if isinstance(failure, UnknownModelError) else str(failure)
        message, *_ = text.split("Config search path")  # Hydra appends a list of directories
        print_error(f"{name}{message}")
