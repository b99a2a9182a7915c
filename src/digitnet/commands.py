"""How the Hydra commands behave: input is checked before anything is made, and the exit status says what happened.

0 done; 1 failed while running; 2 the input is wrong (one line says what, where and what to do); 130 interrupted.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from digitnet.errors import UsageError

PATHS = "run|resume|json|plots|data.root|hydra.run.dir|hydra.sweep.dir"

Check = Callable[[DictConfig], None]
Rewrite = Callable[[list[str]], list[str]]


def run(config_name: str, task: Callable[[DictConfig], Any], check: Check, rewrite: Rewrite = list) -> None:
    """Runs `task` under Hydra, once `check` has seen every job's config, Hydra's part included, and found no fault.

    `rewrite` may change the overrides before they are read. Both raise UsageError for wrong input, and make nothing.
    """
    show_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on to us instead of exiting with 1 for all of them
    try:
        sys.argv[1:] = checked(sys.argv[1:], config_name, check, rewrite)
        hydra.main(version_base="1.3", config_path="pkg://digitnet.configs", config_name=config_name)(task)()
    except (UsageError, HydraException, OmegaConfBaseException) as error:
        if show_traceback:
            traceback.print_exc()
        sys.stderr.write(f"digitnet: error: {' '.join(str(error).partition('Config search path')[0].split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def checked(arguments: list[str], config_name: str, check: Check, rewrite: Rewrite) -> list[str]:
    """The command line as Hydra takes it."""
    options = get_args_parser().parse_args(arguments)
    shows_only = options.help or options.hydra_help or options.info or options.shell_completion
    if shows_only or "LOCAL_RANK" in os.environ:  # a run's first process has checked for the others
        return arguments
    flags = [argument for argument in arguments if argument not in options.overrides]
    overrides = [quote_path(text) for text in rewrite(options.overrides)]
    extra = [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []
    extra += ["hydra.mode=MULTIRUN"] if options.multirun else []
    unlisted: set[str] = set()
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        for job in split(overrides) if options.multirun else [overrides]:
            unlisted |= check_job(options.config_name or config_name, job, extra, check)
    return flags + [f"++{text}" if text.partition("=")[0] in unlisted else text for text in overrides]


def check_job(name: str, job: list[str], extra: list[str], check: Check) -> set[str]:
    """Checks one job and returns the keys that no config lists but a signature knows; Hydra wants `++` before them."""
    from digitnet.overrides import check_types, in_config  # reads the targets' signatures, so imports torch

    loader = GlobalHydra.instance().config_loader()
    groups = loader.list_groups("")
    given = parse(job)
    for override in given:
        if override.key_or_group in groups:
            check_choice(override, loader.get_group_options(override.key_or_group, config_name=name, overrides=extra))
    shaping = [str(override.input_line) for override in given if shapes_config(override, groups)]
    values = {
        override.key_or_group: str(override.input_line) for override in given if not shapes_config(override, groups)
    }
    base = hydra.compose(name, shaping + extra)
    unlisted = {key for key in values if not in_config(key, base, groups)}
    forced = [f"++{text}" if key in unlisted else text for key, text in values.items()]
    config = hydra.compose(name, shaping + forced + extra, return_hydra_config=True)
    if "folder" in config:
        config.folder = config.hydra.run.dir
    check_types(config)
    check(config)
    return unlisted


def shapes_config(override: Override, groups: list[str]) -> bool:
    """Whether it chooses, adds or removes parts of the config, or is Hydra's own; all others set a value."""
    key = override.key_or_group
    ours = not key.startswith("hydra") and key not in groups and not key.endswith("_target_")
    return not ours or override.is_delete() or override.is_add() or override.is_force_add()


def check_choice(override: Override, options: list[str]) -> None:
    from digitnet.overrides import suggest

    group, choice = override.key_or_group, override.value()
    if isinstance(choice, str) and choice not in options:
        raise UsageError(f"{group}={choice}: no such option{suggest(choice, options)} (there are {', '.join(options)})")


def parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
    except OverrideParseException as error:
        raise UsageError(f"{error.override}: not an override that Hydra can read; see `--hydra-help`") from error


def split(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job of a sweep; without those of which a sweeper other than Hydra's own makes the values."""
    known = [
        override for override in parse(overrides) if override.is_discrete_sweep() or not override.is_sweep_override()
    ]
    jobs: list[list[str]] = BasicSweeper.split_arguments(known, None)[0]
    return jobs


def quote_path(override: str) -> str:
    """A path may hold what means something to Hydra: `run=a=b, c` becomes `run='a=b, c'`."""
    found = re.fullmatch(rf"({PATHS})=([^'\"].*)", override, re.DOTALL)
    return "{}='{}'".format(found[1], found[2].replace("'", "\\'")) if found else override
