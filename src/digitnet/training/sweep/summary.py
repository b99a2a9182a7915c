"""What a sweep has found: a table, a preset of the best trial, and a picture."""

import os
import shlex
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitnet.checkpoints.atomic import atomic_write
from digitnet.training.sweep.search_space import SweepSettings, short
from digitnet.training.sweep.study import journal_path
from digitnet.training.sweep.trial import NOTE

_ROWS = 20  # of the table
_FINISHED_LAST = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def summarize(study: optuna.Study, settings: SweepSettings, base: DictConfig) -> None:
    """Print the trials, best first, and write `experiment/best.yaml` and `study.png`.

    Args:
        study: The study.
        settings: The command line.
        base: A composed config of the study, with Hydra's own node.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=_rank)
    importances = _importances(study)
    Console().print(_table(trials, settings, importances))
    if importances:
        print("The percentage below a key is its importance.")
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    if running:
        print(f"{running} running in other workers; the last worker prints the complete table")
    folder = os.path.relpath(settings.study_dir)
    if trials and trials[0].state == TrialState.COMPLETE:
        _write_preset(trials[0], settings, base)
        _write_plot(trials, settings.study_dir, importances)
        print(f"picture: {folder}/study.png\ntrain the best again: {_train_command(trials[0], settings)}")
    else:
        print("no trial is complete yet, so there is no best one")
    print(f"view the trials with: tensorboard --logdir {shlex.quote(folder)}")
    journal = shlex.quote(os.path.relpath(journal_path(settings.study_dir)))
    print(f"or, after pip install optuna-dashboard: optuna-dashboard {journal}")


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Return a key that sorts trials: complete ones by accuracy, then pruned ones by their last epoch, then others."""
    last = max(trial.intermediate_values, default=0)
    value = trial.value if trial.value is not None else trial.intermediate_values.get(last, 0.0)
    return _FINISHED_LAST.index(trial.state), -value, trial.number


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return how much each key explains of the differences between trials, if there are enough."""
    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    return optuna.importance.get_param_importances(study) if len(values) > 1 else {}


def _table(trials: list[FrozenTrial], settings: SweepSettings, importances: dict[str, float]) -> Table:
    columns = [f"{name}\n{importances[name]:.0%}" if name in importances else name for name in settings.searched]
    table = Table("trial", "val/acc")
    for column in columns:
        table.add_column(Text(column))  # Rich would take brackets in a plain string for markup
    for trial in trials[:_ROWS]:
        values = [short(trial.params.get(name)) for name in settings.searched]
        table.add_row(*map(Text, [str(trial.number), _result(trial), *values]))
    if len(trials) > _ROWS:
        table.add_row("…", f"{len(trials) - _ROWS} more")
    return table


def _result(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return f"{trial.value:.2%}"
    note = trial.user_attrs.get(NOTE, "").partition(" ")[0].strip(":") or trial.state.name.lower()
    if not trial.intermediate_values:
        return note
    last = max(trial.intermediate_values)
    return f"{trial.intermediate_values[last]:.2%} {note}, epoch {last}"


def _train_command(best: FrozenTrial, settings: SweepSettings) -> str:
    """Return the command that trains the best trial again."""
    overrides = settings.overrides(best.params)
    if settings.flags:  # Hydra takes one --config-dir only, so the preset cannot be named beside another one
        return shlex.join(["digitnet-train", *settings.flags, *overrides])
    rest = [each.input_line for each in OverridesParser.create().parse_overrides(overrides) if not _fits_preset(each)]
    return shlex.join(
        ["digitnet-train", "--config-dir", os.path.relpath(settings.study_dir), "experiment=best", *map(str, rest)]
    )


def _fits_preset(override: Override) -> bool:
    """Return whether a preset can hold an override: it can delete nothing, and Hydra reads `debug` after presets."""
    return not (override.is_delete() or override.key_or_group in ("debug", "hydra.searchpath"))


def _write_preset(best: FrozenTrial, settings: SweepSettings, base: DictConfig) -> None:
    """Write the overrides of the best trial as an option of the config group `experiment`."""
    values = OmegaConf.create()
    defaults: list[Any] = []
    choices: list[dict[str, Any]] = []
    for override in OverridesParser.create().parse_overrides(settings.overrides(best.params)):
        key, value = override.key_or_group, override.value()
        if not _fits_preset(override) or key == "test":
            continue
        if key == "experiment":
            defaults += value if isinstance(value, list) else [value]
        elif key in base.hydra.runtime.choices:  # a config group
            choices.append({f"override /{key}": value})
        else:
            OmegaConf.update(values, key, value, force_add=True)
    comment = f"Trial {best.number}: val/acc {best.value:.2%}. {_train_command(best, settings)}"
    content = OmegaConf.merge({"defaults": [*defaults, "_self_", *choices]}, values)
    text = f"# @package _global_\n# {comment}\n{OmegaConf.to_yaml(content)}"
    atomic_write(settings.study_dir / "experiment" / "best.yaml", text.encode())


def _write_plot(trials: list[FrozenTrial], study_dir: Path, importances: dict[str, float]) -> None:
    from digitnet.plots import plot_study, render, to_png  # imports matplotlib

    complete, pruned = (
        {trial.number: trial.value for trial in trials if trial.state == state and trial.value is not None}
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    )
    atomic_write(study_dir / "study.png", to_png(render(plot_study(complete, pruned, importances))))
