"""From the command line of a Hydra command to the checked configs of its jobs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digitnet.cli.hydra_internals import parse_command_line, split_sweep
from digitnet.distributed import common_time, current_process
from digitnet.errors import ArgumentError, UsageError

Validator = Callable[[DictConfig], None]
ExpandOverrides = Callable[[list[str], str | None], list[str]]

_GROUPS_THAT_ADD_UP = ("callbacks", "experiment", "debug")  # callbacks=[early_stopping,device_stats]

# Keys whose values are paths, which may contain characters that Hydra's grammar reserves.
_PATH_KEYS = "model_ref|resume|json_path|plots_dir|robustness|data.root|hydra.run.dir|hydra.sweep.dir"


def validate_command_line(
    arguments: list[str], config_name: str, validate: Validator, expand_overrides: ExpandOverrides | None = None
) -> tuple[list[str], list[DictConfig]]:
    """Compose and check the config of every job that a command line starts.

    Args:
        arguments: The command line, without the program.
        config_name: Name of the primary config, unless `--config-name` gives another.
        validate: Checks the config of one job.
        expand_overrides: Replaces the overrides that were typed, given the folder of `--config-dir`.

    Returns:
        The command line to give to Hydra, and the configs of the jobs; no configs if this process starts no job.

    Raises:
        UsageError: If a key, a type or a value is wrong.
        hydra.errors.HydraException: If Hydra refuses the command line.
    """
    options, process = parse_command_line(arguments), current_process()
    shows_only = options.help or options.hydra_help or options.info or options.shell_completion
    if (shows_only or options.cfg) and process.rank > 0:
        raise SystemExit(0)  # the first process shows it
    if shows_only:
        return arguments, []
    if options.multirun and process.world_size > 1:
        raise UsageError(
            f"-m: {process.launcher} has started {process.world_size} processes, but a sweep runs its jobs in one; "
            "start it without a launcher, or start one run for each job, as examples/slurm/seeds.sbatch does"
        )
    flags = [argument for argument in arguments if argument not in options.overrides]
    hydra_overrides = _hydra_overrides(options.config_dir, options.multirun)
    config_name = options.config_name or config_name
    with hydra.initialize_config_module("digitnet.configs", version_base="1.3"):
        if process.started_externally and process.world_size > 1:
            # The clocks of the processes differ, but their run folder must not.
            OmegaConf.register_new_resolver("now", common_time, use_cache=True, replace=True)
        command = _Command(config_name, list(_loader().list_groups("")), hydra_overrides)
        for word in options.overrides:
            _check_word(command, word)
        texts = [quote_path(text) for text in options.overrides]
        if expand_overrides:
            texts = [quote_path(text) for text in expand_overrides(texts, options.config_dir)]
        texts = _rewrite(command, texts, options.multirun)
        configs: list[DictConfig] = []
        started_by_lightning = process.launcher == "lightning" and process.rank > 0
        for number, job in enumerate(_split_jobs(texts, options.multirun)):
            configs.append(_compose_and_check_names(command, job, _pin_output_dir(configs), number))
        if not options.cfg:  # these checks import torch
            for config in configs:
                _require_values(config)
                _check_classes(config, _typed_keys(texts))
                if not started_by_lightning:  # the process that has started this one has checked its config
                    _validate(config, validate)
        final_overrides = [
            text if _is_structural(override, command.groups) else f"++{text}"
            for text, override in zip(texts, _parse(texts), strict=True)
        ]
    record = ["hydra.output_subdir=null"] if process.rank > 0 else []  # the first process writes .hydra
    starts_jobs = not started_by_lightning and not options.cfg
    return flags + final_overrides + _pin_output_dir(configs) + record, configs if starts_jobs else []


@dataclass(frozen=True)
class _Command:
    """What the composition of every job has in common."""

    config_name: str
    groups: list[str]
    hydra_overrides: list[str]

    def options(self, group: str) -> list[str]:
        """Return the options of a config group."""
        return list(_loader().get_group_options(group, config_name=self.config_name, overrides=self.hydra_overrides))

    def compose(self, overrides: list[str], **options: bool) -> DictConfig:
        """Compose a config."""
        return hydra.compose(self.config_name, overrides + self.hydra_overrides, **options)


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()


def _check_word(command: _Command, word: str) -> None:
    """Refuse a word that is not an override, with the override that was probably meant."""
    if "=" in word or word.startswith("~"):
        return
    choices = [f"{group}={word}" for group in command.groups if word in command.options(group)]
    if command.config_name == "evaluate":
        choices = [f"model={word}"]
    hint = f"did you mean {' or '.join(choices)}?" if choices else "a value is set by KEY=VALUE, such as model=mlp"
    raise UsageError(f"{word}: {hint}")


def _parse(texts: list[str]) -> list[Override]:
    return OverridesParser.create(_loader()).parse_overrides(texts)


def _typed_keys(texts: list[str]) -> list[str]:
    return [str(override.key_or_group) for override in _parse(texts)]


def _split_jobs(texts: list[str], multirun: bool) -> list[list[str]]:
    """Return the overrides of each job."""
    return _expand_sweep(_parse(texts)) if multirun else [texts]


def _rewrite(command: _Command, texts: list[str], multirun: bool) -> list[str]:
    """Rewrite overrides that say what is meant in another form than Hydra's."""
    from digitnet.cli.override_expansion import expand_overrides

    def compose() -> DictConfig:
        """Compose the config of the first job, without the values that are set in it."""
        (job, *_) = _split_jobs(texts, multirun)
        overrides = _parse(job)
        choices = [each for each in overrides if _is_choice(each, command.groups)]
        choice_texts = expand_overrides(choices, command.groups, command.options, compose)  # null becomes "~GROUP"
        for override in _parse(choice_texts):
            if _is_choice(override, command.groups):
                _check_choice(command, override)
        imports = [str(each.input_line) for each in overrides if each.key_or_group == "imports"]
        config = command.compose([*choice_texts, *imports])
        _import_modules(config)
        return config

    return expand_overrides(_parse(texts), command.groups, command.options, compose)


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
    return [quote_path(f"{key}={OmegaConf.select(configs[0], key)}")]


def _compose_and_check_names(command: _Command, texts: list[str], pinned: list[str], number: int) -> DictConfig:
    """Compose the config of one job, and check what can be checked without an import of torch."""
    from digitnet.cli.override_validation import check_key, check_types, read_parameters, recipe_keys_without_use

    overrides = _parse(texts)
    for override in overrides:
        if _is_choice(override, command.groups) or override.key_or_group.startswith("hydra/"):
            _check_choice(command, override)
    structural = [text for text, each in zip(texts, overrides, strict=True) if _is_structural(each, command.groups)]
    values = [override for override in overrides if not _is_structural(override, command.groups)]
    added = [override for override in overrides if _is_added_value(override, command.groups)]
    if values or added:
        added_texts = {override.input_line for override in added}
        base = command.compose([text for text in structural if text not in added_texts])
        _import_modules(base)
        for override in [*values, *added]:
            check_key(override.key_or_group, base, command.groups)
    # Hydra accepts only keys that a config lists; those of a signature need "++".
    forced = [f"++{override.input_line}" for override in values]
    config = command.compose(structural + forced + pinned, return_hydra_config=True)
    _import_modules(config)
    if "run_dir" in config:
        _require_interpolated_run_dir(config)
        config.hydra.job.num = number
        sweep = config.hydra.sweep
        in_sweep = config.hydra.mode == RunMode.MULTIRUN
        config.run_dir = f"{sweep.dir}/{sweep.subdir}" if in_sweep else config.hydra.run.dir
    check_types(config, read_parameters, skip=recipe_keys_without_use(config, _typed_keys(texts), read_parameters))
    return config


def _require_interpolated_run_dir(config: DictConfig) -> None:
    """Refuse a run folder other than Hydra's, which is the one that is locked and checked."""
    if not OmegaConf.is_interpolation(config, "run_dir"):
        raise UsageError(f"run_dir={config.run_dir}: follows hydra.run.dir; type hydra.run.dir={config.run_dir}")


def _import_modules(config: DictConfig) -> None:
    """Import the modules that the user has named, whose signatures are read later."""
    if config.get("imports"):
        from digitnet.models.registry import import_modules

        import_modules(config.imports)


def _require_values(config: DictConfig) -> None:
    """Check that every value that has no default is there."""
    if missing := OmegaConf.missing_keys(_without_hydra(config)):
        key = min(missing).replace("model_ref", "model")  # see `digitnet.evaluate.expand_overrides`
        raise UsageError(f"{key}: has no value; type {key}=VALUE, and see --help for the values")


def _check_classes(config: DictConfig, typed_keys: list[str]) -> None:
    """Check keys and types once more, against the signatures of the imported classes."""
    from digitnet.cli.override_validation import check_targets, check_types, recipe_keys_without_use

    check_types(config, skip=recipe_keys_without_use(config, typed_keys))
    check_targets(OmegaConf.to_container(_without_hydra(config), resolve=True))


def _without_hydra(config: DictConfig) -> DictConfig:
    """Return the config without Hydra's own node, whose values are not all known before a job runs."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _check_choice(command: _Command, override: Override) -> None:
    """Refuse an option that its config group does not have."""
    from digitnet.cli.suggestions import did_you_mean

    choice, group = override.value(), override.key_or_group
    if isinstance(choice, list) and group not in _GROUPS_THAT_ADD_UP:
        raise UsageError(f"{group}={_short(choice)}: must be one option, not a list")
    if choice is None:  # outside a sweep, null was rewritten
        raise UsageError(f"{group}=null: cannot be one of the values of -m; start that run by itself")
    options = command.options(group)
    for name in choice if isinstance(choice, list) else [choice]:
        if name is not None and str(name) not in options:
            typed = str(name) if isinstance(choice, list) else override.get_value_string()
            hint = did_you_mean(typed, options)
            if group == "hydra/sweeper":
                hint = "; digitnet-sweep searches with Optuna"
            raise UsageError(f"{group}={typed}: no such option{hint} (the options are {', '.join(options)})")


def _short(choice: list[Any]) -> str:
    return f"[{','.join(map(str, choice))}]"


def _is_choice(override: Override, groups: list[str]) -> bool:
    """Return whether an override chooses from a config group."""
    return override.key_or_group in groups and not override.is_delete() and not isinstance(override.value(), dict)


def _is_added_value(override: Override, groups: list[str]) -> bool:
    """Return whether an override adds a value, with "+" or "++"."""
    is_added = override.is_add() or override.is_force_add()
    return is_added and override.key_or_group not in groups and not override.key_or_group.startswith("hydra")


def _is_structural(override: Override, groups: list[str]) -> bool:
    """Return whether an override chooses, adds or removes parts of the config, or is Hydra's own.

    All other overrides set a value. `imports` is among the first, because signatures are read after these imports.
    """
    key = override.key_or_group
    is_choice = key in groups and not isinstance(override.value(), dict)
    sets_value = key != "imports" and not key.startswith("hydra") and not is_choice and not key.endswith("_target_")
    return not sets_value or override.is_delete() or override.is_add() or override.is_force_add()


def _expand_sweep(overrides: list[Override]) -> list[list[str]]:
    """Return the overrides of each job, without those whose values a sweeper other than Hydra's own will choose."""
    return split_sweep([each for each in overrides if each.is_discrete_sweep() or not each.is_sweep_override()])


def quote_path(override: str) -> str:
    """Quote a path, which may contain characters of Hydra's grammar: `resume=a=b, c` becomes `resume='a=b, c'`.

    A shell does not expand `~` after a `=`, so this is done here.

    Args:
        override: An override as it was typed.

    Returns:
        The override for Hydra; the same one if its value is not a path.

    Raises:
        UsageError: If the path is empty, as it is for a variable of the shell that is not set.
    """
    if re.fullmatch(rf"({_PATH_KEYS})=", override):
        raise UsageError(f"{override}: has no value; type a path, or leave it out")
    match = re.fullmatch(rf"({_PATH_KEYS})=((?!null$)[^'\"].*)", override, re.DOTALL)
    if not match or override.lower() in ("robustness=true", "robustness=false"):
        return override
    path = str(Path(match[2]).expanduser()) if match[2].startswith("~/") else match[2]
    return "{}='{}'".format(match[1], path.replace("'", "\\'"))
