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
from hydra.errors import HydraException
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
        message, *_ = str(error).split("Config search path")  # Hydra's list of folders says nothing to a user
        sys.stderr.write(f"digitnet: error: {' '.join(message.split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        sys.exit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code)


def checked(arguments: list[str], config_name: str, check: Check, rewrite: Rewrite) -> list[str]:
    """The command line as Hydra takes it."""
    options = get_args_parser().parse_args(arguments)
    if options.help or options.hydra_help or options.info or options.shell_completion:
        return arguments
    flags = [argument for argument in arguments if argument not in options.overrides]
    texts = [quote_path(text) for text in rewrite(options.overrides)]
    extra = [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []
    extra += ["hydra.mode=MULTIRUN"] if options.multirun else []
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = loader.list_groups("")
        overrides = OverridesParser.create(loader).parse_overrides(texts)
        for job in jobs(overrides) if options.multirun else [texts]:
            config = compose_checked(options.config_name or config_name, job, groups, extra)
            if "LOCAL_RANK" not in os.environ:  # a run's first process checks for the others
                check(config)
    return flags + [
        text if shapes_config(override, groups) else f"++{text}"
        for text, override in zip(texts, overrides, strict=True)
    ]


def compose_checked(name: str, texts: list[str], groups: list[str], extra: list[str]) -> DictConfig:
    """The config of one job, its keys and types checked. Values get `++`: Hydra knows only keys that a config lists."""
    from digitnet.overrides import check_key, check_types, suggest  # read the targets' signatures, so import torch

    loader = GlobalHydra.instance().config_loader()
    overrides = OverridesParser.create(loader).parse_overrides(texts)
    for override in overrides:
        group, choice = override.key_or_group, override.value() if override.key_or_group in groups else None
        options = loader.get_group_options(group, config_name=name, overrides=extra) if isinstance(choice, str) else []
        if isinstance(choice, str) and choice not in options:
            raise UsageError(
                f"{group}={choice}: no such option{suggest(choice, options)} (there are {', '.join(options)})"
            )
    shaping = [text for text, override in zip(texts, overrides, strict=True) if shapes_config(override, groups)]
    base = hydra.compose(name, shaping + extra)
    values = [override for override in overrides if not shapes_config(override, groups)]
    for override in values:
        check_key(override.key_or_group, base, groups)
    forced = [f"++{override.input_line}" for override in values]
    config = hydra.compose(name, shaping + forced + extra, return_hydra_config=True)
    if "folder" in config:
        config.folder = config.hydra.run.dir
    check_types(config)
    return config


def shapes_config(override: Override, groups: list[str]) -> bool:
    """Whether it chooses, adds or removes parts of the config, or is Hydra's own; all others set a value."""
    key = override.key_or_group
    ours = not key.startswith("hydra") and key not in groups and not key.endswith("_target_")
    return not ours or override.is_delete() or override.is_add() or override.is_force_add()


def jobs(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job of a sweep, but for those whose values a sweeper other than Hydra's own will make."""
    known = [override for override in overrides if override.is_discrete_sweep() or not override.is_sweep_override()]
    split: list[list[str]] = BasicSweeper.split_arguments(known, None)[0]
    return split


def quote_path(override: str) -> str:
    """A path may hold what means something to Hydra: `run=a=b, c` becomes `run='a=b, c'`."""
    found = re.fullmatch(rf"({PATHS})=([^'\"].*)", override, re.DOTALL)
    return "{}='{}'".format(found[1], found[2].replace("'", "\\'")) if found else override
