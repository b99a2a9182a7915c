"""What a sweep has found: a table, a preset of the best trial, and a picture."""

import io
import os
import shlex
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from digitnet.checkpoints.atomic import atomic_write
from digitnet.training.sweep.search_space import SweepSettings
from digitnet.training.sweep.study import journal_path, trial_dir
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
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    if running:
        print(f"{running} running in other workers; the last worker prints the complete table")
    folder = os.path.relpath(settings.study_dir)
    if trials and trials[0].state == TrialState.COMPLETE:
        _write_preset(trials[0], settings, base)
        _write_plot(trials, settings, importances)
        print(f"picture: {folder}/study.png\ntrain the best again: {_train_command(trials[0], settings)}")
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
    title = f"{len(trials)} trials; a percentage below a key is its importance" if importances else None
    table = Table("trial", "val/acc", *columns, caption=title)
    for trial in trials[:_ROWS]:
        table.add_row(str(trial.number), _result(trial), *(_short(trial.params.get(name)) for name in settings.searched))
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


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _train_command(best: FrozenTrial, settings: SweepSettings) -> str:
    """Return the command that trains the best trial again."""
    flags = [text for text in settings.fixed if text.startswith("--")]
    if flags:  # Hydra takes one --config-dir only, so the preset cannot be named beside another one
        return shlex.join(["digitnet-train", *flags, *settings.overrides(best.params)])
    return shlex.join(["digitnet-train", "--config-dir", os.path.relpath(settings.study_dir), "experiment=best"])


def _write_preset(best: FrozenTrial, settings: SweepSettings, base: DictConfig) -> None:
    """Write the overrides of the best trial as an option of the config group `experiment`."""
    groups, values = base.hydra.runtime.choices, OmegaConf.create()
    defaults: list[Any] = []
    comments = [f"Trial {best.number}: val/acc {best.value:.2%}. {_train_command(best, settings)}"]
    for override in OverridesParser.create().parse_overrides(settings.overrides(best.params)):
        key, value = override.key_or_group, override.value()
        if override.is_delete() or key.startswith("hydra") or key == "test":
            comments += [] if key == "test" else [f"Add this to the command: {override.input_line}"]
        elif key == "experiment":
            defaults += value if isinstance(value, list) else [value]
        elif key in groups:
            defaults.append({f"/{key}" if override.is_add() else f"override /{key}": value})
        else:
            OmegaConf.update(values, key, value, force_add=True)
    content = OmegaConf.create({"defaults": [*defaults, "_self_"]} if defaults else {})
    lines = ["# @package _global_", *(f"# {comment}" for comment in comments)]
    text = "\n".join(lines) + "\n" + OmegaConf.to_yaml(OmegaConf.merge(content, values))
    atomic_write(settings.study_dir / "experiment" / "best.yaml", text.encode())


def _write_plot(trials: list[FrozenTrial], settings: SweepSettings, importances: dict[str, float]) -> None:
    from digitnet.plots import plot_study  # imports matplotlib

    values = {trial.number: trial.value for trial in trials if trial.value is not None}
    picture = io.BytesIO()
    plot_study(values, importances).savefig(picture, format="png")
    atomic_write(settings.study_dir / "study.png", picture.getvalue())
