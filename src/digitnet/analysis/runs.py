"""Finished runs, and groups of runs that differ only by their seed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitnet.analysis.predictions import Predictions
from digitnet.errors import UsageError

# Parts of a config that may differ between the runs of a group: the seed, and what changes no figure.
_PER_RUN_KEYS = {"seed", "run_dir", "resume", "test", "hydra", "plots"}
_PER_RUN_TRAINER_KEYS = {"logger", "default_root_dir", "enable_progress_bar", "enable_model_summary"}
_PER_RUN_OVERRIDES = ("seed=", "test=", "resume=", "run_dir=", "hydra.", "plots=", "trainer.logger")
_MAX_NAMED_DIFFERENCES = 3


@dataclass(frozen=True)
class FinishedRun:
    """A run with everything that a report needs of it."""

    path: str
    """The run folder, as it was named."""
    metrics: dict[str, Any]
    """The content of metrics.json."""
    history: list[dict[str, float]]
    """The rows of metrics.csv."""
    config: dict[str, Any]
    """The composed config, with interpolations as they were typed."""
    overrides: list[str]
    """The overrides that it was started with, without "+"."""
    model: str
    """The option of the config group `model`, such as "cnn"."""
    predictions: dict[str, Predictions] = field(default_factory=dict)
    """Predictions of the best epoch by split, "val" and "test", as far as they are known."""

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.metrics["seed"])

    @property
    def data_set(self) -> str:
        """Name of the data set."""
        name = str(self.metrics.get("data") or "mnist")  # runs of 0.1.0 do not name it
        return "MNIST" if name == "mnist" else name

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return [str(name) for name in self.metrics.get("classes") or range(10)]

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return int(self.metrics.get("epochs") or len(self.history))

    @property
    def chosen_by(self) -> str:
        """How the epoch of best.ckpt was chosen."""
        rule = "highest validation accuracy" if "val/acc" in self.metrics else "the last; no validation images"
        return f"epoch {self.metrics['epoch']} of {self.epochs} ({rule})"


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed, in the order of the seeds."""

    name: str
    """The overrides that tell it from the other groups."""
    runs: list[FinishedRun]
    """The runs, at least one."""

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.seed for run in self.runs]

    def values(self, name: str) -> list[float]:
        """Return a figure of metrics.json for each run that has it."""
        return [float(run.metrics[name]) for run in self.runs if name in run.metrics]

    def predictions(self, split: str) -> list[Predictions]:
        """Return the predictions of all runs for one set of images, or nothing if any of them is missing."""
        found = [run.predictions[split] for run in self.runs if split in run.predictions]
        same = len({each.images_sha256 for each in found}) == 1
        return found if len(found) == len(self.runs) and same else []

    def by_seed(self) -> dict[int, FinishedRun]:
        """Return the runs by their seed."""
        return {run.seed: run for run in self.runs}


def mean_probabilities(predictions: Sequence[Predictions]) -> NDArray[np.float64]:
    """Return the mean of the probabilities of several networks, `[N, C]`: the prediction of their ensemble."""
    mean: NDArray[np.float64] = np.mean([each.probabilities for each in predictions], axis=0, dtype=np.float64)
    return mean


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a config says about the figures of a run, apart from its seed.

    Args:
        config: A composed config, with interpolations as they were typed.
    """
    kept = {key: value for key, value in config.items() if key not in _PER_RUN_KEYS}
    if isinstance(trainer := kept.get("trainer"), dict):
        kept["trainer"] = {key: value for key, value in trainer.items() if key not in _PER_RUN_TRAINER_KEYS}
    return kept


def group_runs(runs: Sequence[FinishedRun]) -> tuple[list[Group], list[str]]:
    """Put runs that differ only by their seed into one group.

    Args:
        runs: The runs, at least one.

    Returns:
        The groups, in the order of their first runs, and a note for each run that repeats a seed of its group, which
        is left out, because it would make the spread over seeds look smaller than it is.

    Raises:
        UsageError: If the runs are of different data sets.
    """
    _require_one_data_set(runs)
    by_identity: dict[str, dict[int, FinishedRun]] = {}
    notes = []
    for run in runs:
        group = by_identity.setdefault(json.dumps(identity(run.config), sort_keys=True, default=str), {})
        if run.seed in group:
            notes.append(f"{run.path} is left out: it repeats seed {run.seed} of {group[run.seed].path}.")
        else:
            group[run.seed] = run
    members = [[group[seed] for seed in sorted(group)] for group in by_identity.values()]
    return [Group(name, runs) for name, runs in zip(_group_names(members), members, strict=True)], notes


def find_group(groups: Sequence[Group], name: str) -> Group:
    """Return the group with a name, or the only one whose name contains it.

    Args:
        groups: All groups.
        name: The name.

    Raises:
        UsageError: If no group or several groups match.
    """
    exact = [group for group in groups if group.name == name]
    found = exact or [group for group in groups if name in group.name]
    if len(found) != 1:
        names = ", ".join(f'"{group.name}"' for group in groups)
        raise UsageError(
            f"--baseline={name}: {'several groups match' if found else 'no such group'}; there are {names}"
        )
    return found[0]


def _require_one_data_set(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run in runs:
        if (run.data_set, run.classes) != (first.data_set, first.classes):
            raise UsageError(
                f"{run.path} was trained on {run.data_set}, but {first.path} on {first.data_set}; "
                "report runs of one data set at a time"
            )


def _group_names(groups: list[list[FinishedRun]]) -> list[str]:
    """Return a short and unique name for each group: its overrides, without those that all groups share."""
    overrides = [_shared_overrides(runs) for runs in groups]
    common = set.intersection(*map(set, overrides)) if len(groups) > 1 else set()
    short = [" ".join(line for line in lines if line not in common) for lines in overrides]
    unique = len(set(short)) == len(short) and all(short)
    names = short if unique else [" ".join(lines) for lines in overrides]
    for name in {name for name in names if names.count(name) > 1}:  # started alike from config files that changed
        same = [index for index, each in enumerate(names) if each == name]
        flat = [dict(_flatten(identity(groups[index][0].config))) for index in same]
        keys = list(dict.fromkeys(key for each in flat for key in each))
        differing = [key for key in keys if len({str(each.get(key)) for each in flat}) > 1][:_MAX_NAMED_DIFFERENCES]
        for index, each in zip(same, flat, strict=True):
            names[index] = f"{name} [{' '.join(f'{key}={each.get(key)}' for key in differing)}]"
    return names


def _shared_overrides(runs: list[FinishedRun]) -> list[str]:
    """Return the overrides that all runs of a group share, with the network first."""
    shared = [
        line
        for line in dict.fromkeys(runs[0].overrides)
        if not line.startswith(_PER_RUN_OVERRIDES) and all(line in run.overrides for run in runs)
    ]
    named = any(line.startswith(("model=", "experiment=")) for line in shared)
    return shared if named else [f"model={runs[0].model}", *shared]


def _flatten(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a config by their dotted keys."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flatten(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node
