"""How the Hydra commands behave: input is checked before anything is made, and the exit status says what happened.

0 done; 1 failed while running; 2 the input is wrong (one line says what, where and what to do); 130 interrupted, 143
terminated, with the state of a training run on file.
"""

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from digitnet import signals
from digitnet.cli import argparse_app
from digitnet.errors import RunError, UsageError

WRONG_INPUT = (UsageError, HydraException, OmegaConfBaseException)
EXPECTED = (*WRONG_INPUT, RunError, OSError)
PATHS = "model_ref|resume|json_path|plots_dir|data.root|hydra.run.dir|hydra.sweep.dir"

Check = Callable[[DictConfig], None]
Rewrite = Callable[[list[str]], list[str]]
Hold = Callable[[list[DictConfig]], AbstractContextManager[None]]


def run(
    config_name: str,
    task: Callable[[DictConfig], Any],
    check: Check,
    rewrite: Rewrite = list,
    hold: Hold | None = None,
) -> None:
    """Runs `task` under Hydra, once `check` has seen every job's config, Hydra's part included, and found no fault.

    `rewrite` may change the overrides before they are read. Both raise UsageError for wrong input, and make nothing.
    `hold` gets all that was checked, and lasts from before Hydra's first file until the end.
    """
    show_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on to us instead of exiting with 1 for all of them
    failures: list[tuple[str, Exception]] = []
    try:
        with signals.handled():
            sys.argv[1:], configs = checked(sys.argv[1:], config_name, check, rewrite)
            job = remembering(failures, task)
            with hold(configs) if hold and configs else nullcontext():
                hydra.main(version_base="1.3", config_path="pkg://digitnet.configs", config_name=config_name)(job)()
    except Exception as error:
        if not failures and not isinstance(error, EXPECTED):
            raise
        failures = failures or [("", error)]
    finally:  # after a signal, too
        for name, failure in failures:
            if show_traceback or not isinstance(failure, EXPECTED):
                traceback.print_exception(failure)
            message, *_ = str(failure).split("Config search path")  # Hydra's list of folders says nothing to a user
            argparse_app.print_error(f"{name}{message}")
    if failures:
        sys.exit(2 if isinstance(failures[0][1], WRONG_INPUT) and not failures[0][0] else 1)


def remembering(failures: list[tuple[str, Exception]], task: Callable[[DictConfig], Any]) -> Callable[..., Any]:
    """Notes which job failed, and of what: Hydra goes on with a sweep and tells of the first failure only (#2284)."""

    @functools.wraps(task)
    def job(config: DictConfig) -> Any:
        try:
            return task(config)
        except Exception as error:
            hydra_config = HydraConfig.get()
            in_sweep = hydra_config.mode == RunMode.MULTIRUN
            if not in_sweep and not isinstance(error, EXPECTED):
                raise
            told = " ".join(override.lstrip("+") for override in hydra_config.overrides.task)
            name = f"job {hydra_config.job.num} ({told}): " if in_sweep else ""
            failures.append((name, error))
            if in_sweep:
                raise  # a sweeper may want to know; alone, Hydra would only print its own line before ours

    return job


def checked(
    arguments: list[str], config_name: str, check: Check, rewrite: Rewrite
) -> tuple[list[str], list[DictConfig]]:
    """The command line as Hydra takes it, and the configs of the jobs that this process will start."""
    options = get_args_parser().parse_args(arguments)
    if options.help or options.hydra_help or options.info or options.shell_completion:
        return arguments, []
    flags = [argument for argument in arguments if argument not in options.overrides]
    texts = [quote_path(text) for text in rewrite(options.overrides)]
    extra = [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []
    extra += ["hydra.mode=MULTIRUN"] if options.multirun else []
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = loader.list_groups("")
        overrides = OverridesParser.create(loader).parse_overrides(texts)
        configs: list[DictConfig] = []
        for number, job in enumerate(jobs(overrides) if options.multirun else [texts]):
            config = compose_checked(options.config_name or config_name, job, groups, extra + pinned(configs), number)
            configs.append(config)
            if "LOCAL_RANK" not in os.environ:  # a run's first process checks for the others
                check(config)
    settled = [
        text if shapes_config(override, groups) else f"++{text}"
        for text, override in zip(texts, overrides, strict=True)
    ]
    starts = "LOCAL_RANK" not in os.environ and not options.cfg
    return flags + settled + pinned(configs), configs if starts else []


def pinned(configs: list[DictConfig]) -> list[str]:
    """Makes Hydra use the folder that was checked; its name may hold the time, which goes on."""
    return [quote_path(f"{place(config)}={OmegaConf.select(config, place(config))}") for config in configs[:1]]


def place(config: DictConfig) -> str:
    """The key of the folder that Hydra fills, a run's or that of a whole sweep."""
    return "hydra.sweep.dir" if config.hydra.mode == RunMode.MULTIRUN else "hydra.run.dir"


def compose_checked(name: str, texts: list[str], groups: list[str], extra: list[str], number: int) -> DictConfig:
    """The config of one job, its keys and types checked. Values get `++`: Hydra knows only keys that a config lists."""
    from digitnet.cli.override_validation import (
        check_key,
        check_targets,
        check_types,
        suggest,
    )  # read the targets' signatures, so import torch

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
    if "run_dir" in config:  # as it will be
        config.hydra.job.num = number
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        sweep = config.hydra.sweep
        config.run_dir = f"{sweep.dir}/{sweep.subdir}" if in_sweep else config.hydra.run.dir
    check_types(config)
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    check_targets(OmegaConf.to_container(ours, resolve=True))
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
    """A path may hold what means something to Hydra: `resume=a=b, c` becomes `resume='a=b, c'`."""
    found = re.fullmatch(rf"({PATHS})=((?!null$)[^'\"].*)", override, re.DOTALL)
    return "{}='{}'".format(found[1], found[2].replace("'", "\\'")) if found else override
