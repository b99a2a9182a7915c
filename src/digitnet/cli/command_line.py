"""From the command line of a Hydra command to the checked configs of its jobs."""

import re
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digitnet.cli.hydra_internals import parse_command_line, split_sweep
from digitnet.distributed import is_main_process
from digitnet.errors import ArgumentError, UsageError

Validator = Callable[[DictConfig], None]
ExpandOverrides = Callable[[list[str]], list[str]]

# Keys whose values are paths, which may contain characters that Hydra's grammar reserves.
_PATH_KEYS = "model_ref|resume|json_path|plots_dir|data.root|hydra.run.dir|hydra.sweep.dir"


def validate_command_line(
    arguments: list[str], config_name: str, validate: Validator, expand_overrides: ExpandOverrides | None = None
) -> tuple[list[str], list[DictConfig]]:
    """Compose and check the config of every job that a command line starts.

    Args:
        arguments: The command line, without the program.
        config_name: Name of the primary config, unless `--config-name` gives another.
        validate: Checks the config of one job.
        expand_overrides: Replaces the overrides that were typed.

    Returns:
        The command line to give to Hydra, and the configs of the jobs; no configs if this process starts no job.

    Raises:
        UsageError: If a key, a type or a value is wrong.
        hydra.errors.HydraException: If Hydra refuses the command line.
    """
    options = parse_command_line(arguments)
    if options.help or options.hydra_help or options.info or options.shell_completion:
        return arguments, []
    flags = [argument for argument in arguments if argument not in options.overrides]
    hydra_overrides = _hydra_overrides(options.config_dir, options.multirun)
    config_name = options.config_name or config_name
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = list(loader.list_groups(""))
        texts = [_quote_path(text) for text in options.overrides]
        if expand_overrides:
            texts = [_quote_path(text) for text in expand_overrides(texts)]
        overrides = OverridesParser.create(loader).parse_overrides(texts)
        configs: list[DictConfig] = []
        for number, job in enumerate(_expand_sweep(overrides) if options.multirun else [texts]):
            config = _compose_and_check(config_name, job, groups, hydra_overrides + _pin_output_dir(configs), number)
            configs.append(config)
            if is_main_process():
                _validate(config, validate)
    final_overrides = [
        text if _is_structural(override, groups) else f"++{text}"
        for text, override in zip(texts, overrides, strict=True)
    ]
    starts_jobs = is_main_process() and not options.cfg
    return flags + final_overrides + _pin_output_dir(configs), configs if starts_jobs else []


def _hydra_overrides(config_dir: str | None, multirun: bool) -> list[str]:
    """Return the overrides that stand for Hydra's own options."""
    overrides = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    return overrides + (["hydra.mode=MULTIRUN"] if multirun else [])


def _validate(config: DictConfig, validate: Validator) -> None:
    try:
        validate(config)
    except ArgumentError as error:
        raise with_config_key(error, config) from error


def with_config_key(error: ArgumentError, config: DictConfig) -> UsageError:
    """Return an error that names the key that was typed instead of the argument of a class.

    Args:
        error: The error that a class has raised.
        config: The config from which the class was built.

    Returns:
        The error, with the key in its message.
    """
    from digitnet.cli.override_validation import find_key

    key = find_key(error.argument, error.value, config)
    usage_error = UsageError(f"{key}={error.value}: must be {error.requirement}")
    usage_error.__cause__ = error
    return usage_error


def _pin_output_dir(configs: list[DictConfig]) -> list[str]:
    """Make Hydra use the output folder that was checked, whose name may contain the time."""
    if not configs:
        return []
    key = "hydra.sweep.dir" if configs[0].hydra.mode == RunMode.MULTIRUN else "hydra.run.dir"
    return [_quote_path(f"{key}={OmegaConf.select(configs[0], key)}")]


def _compose_and_check(
    config_name: str, texts: list[str], groups: list[str], hydra_overrides: list[str], number: int
) -> DictConfig:
    """Compose the config of one job, and check its keys and types."""
    # These functions read signatures, so they import torch.
    from digitnet.cli.override_validation import check_key, check_targets, check_types, recipe_keys_without_use

    overrides = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(texts)
    for override in overrides:
        if override.key_or_group in groups:
            _check_choice(override, config_name, hydra_overrides)
    structural = [text for text, override in zip(texts, overrides, strict=True) if _is_structural(override, groups)]
    base = hydra.compose(config_name, structural + hydra_overrides)
    values = [override for override in overrides if not _is_structural(override, groups)]
    for override in values:
        check_key(override.key_or_group, base, groups)
    # Hydra accepts only keys that a config lists; those of a signature need "++".
    forced = [f"++{override.input_line}" for override in values]
    config = hydra.compose(config_name, structural + forced + hydra_overrides, return_hydra_config=True)
    if "run_dir" in config:
        config.hydra.job.num = number
        sweep = config.hydra.sweep
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        config.run_dir = f"{sweep.dir}/{sweep.subdir}" if in_sweep else config.hydra.run.dir
    typed = [override.key_or_group for override in values]
    check_types(config, skip=recipe_keys_without_use(config, typed))
    job_config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    check_targets(OmegaConf.to_container(job_config, resolve=True))
    return config


def _check_choice(override: Override, config_name: str, hydra_overrides: list[str]) -> None:
    """Refuse an option that its config group does not have."""
    from digitnet.cli.override_validation import did_you_mean

    choice, group = override.value(), override.key_or_group
    choices = choice if isinstance(choice, list) else [choice]
    loader = GlobalHydra.instance().config_loader()
    options = loader.get_group_options(group, config_name=config_name, overrides=hydra_overrides)
    for name in choices:
        if isinstance(name, str) and name not in options:
            hint = did_you_mean(name, options)
            raise UsageError(f"{group}={name}: no such option{hint} (the options are {', '.join(options)})")


def _is_structural(override: Override, groups: list[str]) -> bool:
    """Return whether an override chooses, adds or removes parts of the config, or is Hydra's own.

    All other overrides set a value.
    """
    key = override.key_or_group
    sets_value = not key.startswith("hydra") and key not in groups and not key.endswith("_target_")
    return not sets_value or override.is_delete() or override.is_add() or override.is_force_add()


def _expand_sweep(overrides: list[Override]) -> list[list[str]]:
    """Return the overrides of each job, without those whose values a sweeper other than Hydra's own will choose."""
    return split_sweep([each for each in overrides if each.is_discrete_sweep() or not each.is_sweep_override()])


def _quote_path(override: str) -> str:
    """Quote a path, which may contain characters of Hydra's grammar: `resume=a=b, c` becomes `resume='a=b, c'`."""
    match = re.fullmatch(rf"({_PATH_KEYS})=((?!null$)[^'\"].*)", override, re.DOTALL)
    return "{}='{}'".format(match[1], match[2].replace("'", "\\'")) if match else override
