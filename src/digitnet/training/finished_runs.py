"""Reads finished run folders for a report, and computes the predictions that they lack."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from digitnet.analysis.predictions import Predictions, load_predictions
from digitnet.analysis.runs import FinishedRun, group_runs
from digitnet.checkpoints.migrations import is_of_0_1_0, migrate_config, migrate_override
from digitnet.errors import UsageError
from digitnet.training.run_dir import best_checkpoint, metrics_csv, metrics_json, predictions_npz, read_metrics_csv

# Modules that need torch are imported where they are used: a report of predictions on file does not need it.

_MAX_DEPTH = 3  # of run folders below a folder that is named: a folder of sweeps of runs
_MAX_TEXT_BYTES = 2**24


def find_run_dirs(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Find the finished runs in folders of runs, sweeps and studies.

    Args:
        paths: Folders of runs, or folders that hold run folders.

    Returns:
        The run folders, each once, and a note for each folder in which unfinished runs were left out.

    Raises:
        UsageError: If a folder is no run and holds none.
    """
    found: dict[Path, Path] = {}
    notes = []
    for path in paths:
        run_dirs, unfinished = _runs_below(path)
        if not run_dirs:
            raise UsageError(
                f"{path}: the run is not finished, for it has no metrics.json; continue it with resume={path}"
                if unfinished
                else f"{path}: no finished run there; give the folder of a run, a sweep or a study of digitnet.train"
            )
        found |= {run_dir.resolve(): run_dir for run_dir in run_dirs if run_dir.resolve() not in found}
        if unfinished:
            notes.append(f"{path}: {unfinished} unfinished {'run is' if unfinished == 1 else 'runs are'} left out.")
    return list(found.values()), notes


def _runs_below(path: Path) -> tuple[list[Path], int]:
    """Return the finished runs in a folder, at all depths, in natural order, and the number of unfinished ones."""
    started: set[Path] = set()
    for depth in range(_MAX_DEPTH + 1):
        pattern = "/".join([*["*"] * depth, ".hydra/config.yaml"])
        run_dirs = {record.parents[1] for record in path.glob(pattern)}
        started |= {run_dir for run_dir in run_dirs if started.isdisjoint(run_dir.parents)}  # not inside another run
    finished = {run_dir for run_dir in started if metrics_json(run_dir).is_file()}
    return sorted(finished, key=_natural_order), len(started - finished)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts run folders "2" and "10" by number."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in path.parts]


def read_run(run_dir: Path) -> FinishedRun:
    """Read a finished run, with its predictions as far as they are on file.

    Args:
        run_dir: The run folder.

    Returns:
        The run.

    Raises:
        UsageError: If a file of it is missing or damaged, or the predictions are of another checkpoint or version.
    """
    metrics, (config, overrides) = _read_metrics(metrics_json(run_dir)), _read_settings(run_dir)
    checkpoint, predictions = best_checkpoint(run_dir), predictions_npz(run_dir)
    try:
        history = read_metrics_csv(metrics_csv(run_dir))
    except (OSError, ValueError) as error:
        raise UsageError(f"{metrics_csv(run_dir)}: missing or damaged; resume={run_dir} writes it again") from error
    if not checkpoint.is_file():
        raise UsageError(f"{checkpoint}: missing, so that nobody can check what the run has predicted; train again")
    return FinishedRun(
        path=str(run_dir),
        metrics=metrics,
        history=history,
        config=config,
        overrides=overrides,
        model=_model_choice(run_dir) or str(metrics["model"]),
        predictions=load_predictions(predictions, checkpoint) if predictions.is_file() else {},
    )


def _read_settings(run_dir: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the config of a run and its overrides without "+", as this version names their keys."""
    config = _read_yaml(run_dir, "config.yaml", dict)
    overrides = [str(line) for line in _read_yaml(run_dir, "overrides.yaml", list)]
    if is_of_0_1_0(config):
        overrides = [migrate_override(line) for line in overrides]
    return migrate_config(config), [line.lstrip("+") for line in overrides]


def _read_metrics(path: Path) -> dict[str, Any]:
    """Read metrics.json and check what a report relies on."""
    try:
        metrics: dict[str, Any] = json.loads(_read_text(path))
        numbers = [value for name, value in metrics.items() if name.startswith(("val/", "test/", "train/"))]
        sound = all(isinstance(value, int | float) for value in (*numbers, metrics["seed"], metrics["epoch"]))
        sound = sound and isinstance(metrics["model"], str)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: damaged; resume={path.parent} writes it again") from error
    if not sound:
        raise UsageError(f"{path}: damaged; resume={path.parent} writes it again")
    return metrics


def _read_yaml(run_dir: Path, name: str, kind: type) -> Any:
    """Read a record of Hydra, with interpolations as they were typed."""
    path = run_dir / ".hydra" / name
    try:
        content = OmegaConf.to_container(OmegaConf.create(_read_text(path)), resolve=False)
    except Exception as error:  # a YAML parser raises several types
        raise UsageError(f"{path}: missing or damaged; without it nobody knows what the run has computed") from error
    if not isinstance(content, kind):
        raise UsageError(f"{path}: damaged; without it nobody knows what the run has computed")
    return content


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} has more than {_MAX_TEXT_BYTES} bytes")
    return path.read_text()


def _model_choice(run_dir: Path) -> str | None:
    """Return which option of the group `model` the run was started with."""
    try:
        node: Any = OmegaConf.select(OmegaConf.load(run_dir / ".hydra" / "hydra.yaml"), "hydra.runtime.choices.model")
    except Exception:  # the record is not needed
        return None
    return node if isinstance(node, str) else None


def describe_mixture(run_dirs: Sequence[Path]) -> str | None:
    """Return a sentence that names the different settings among runs, or None if only their seeds differ.

    Only the settings are read, so that it does not matter whether the figures and the predictions are intact.

    Args:
        run_dirs: Run folders. Those that are not finished are not looked at.

    Raises:
        UsageError: If the settings of a run are missing or damaged.
    """
    finished = [run_dir for run_dir in run_dirs if metrics_json(run_dir).is_file()]
    if len(finished) < 2:
        return None
    runs = []
    for number, run_dir in enumerate(finished):
        config, overrides = _read_settings(run_dir)
        metrics = {"seed": number}  # each run counts, also one that repeats a seed
        runs.append(FinishedRun(str(run_dir), metrics, [], config, overrides, _model_choice(run_dir) or "unknown"))
    groups, _ = group_runs(runs)
    if len(groups) < 2:
        return None
    parts = ", ".join(f"{len(group.runs)} of {group.name}" for group in groups)
    return f"the runs differ by more than their seed ({parts})"


def choose_split(runs: Sequence[FinishedRun], test: bool) -> str:
    """Return the images on which runs are compared: "test" if all were scored on them or `test` asks, else "val".

    Args:
        runs: The runs.
        test: Whether runs may be scored on the test images now.

    Raises:
        UsageError: If the runs have no images in common.
    """
    if test or all("test/acc" in run.metrics for run in runs):
        return "test"
    for run in runs:
        if "val/acc" not in run.metrics:
            raise UsageError(
                f"{run.path}: trained without validation images, and other runs were not scored on the test images; "
                "--test scores them all"
            )
    return "val"


def complete_runs(runs: Sequence[FinishedRun], split: str, test: bool) -> tuple[list[FinishedRun], list[str]]:
    """Compute the predictions for a split that runs lack, from their best checkpoints.

    Args:
        runs: The runs.
        split: The split of `choose_split`.
        test: Whether runs may be scored on the test images now.

    Returns:
        The runs, and a note for each run whose predictions stay unknown.

    Raises:
        UsageError: If a checkpoint does not have the accuracy that metrics.json records, or a run has no accuracy on
            the split and cannot be scored.
    """
    completed, notes = [], []
    for run in runs:
        if split in run.predictions:
            completed.append(run)
        elif split == "test" and not test:
            notes.append(
                f"{run.path} has a test accuracy but no predictions on file, so its test images are not compared one "
                "by one; --test computes them from its checkpoint."
            )
            completed.append(run)
        else:
            try:
                predictions = _compute_predictions(run, split)
            except UsageError as error:
                if f"{split}/acc" not in run.metrics:
                    raise UsageError(
                        f"{run.path}: has no {split} accuracy, and it cannot be computed: {error}; bring the data back "
                        "to where it was, or leave the run out"
                    ) from error
                notes.append(f"{run.path} has no predictions on file, and they cannot be computed: {error}.")
                completed.append(run)
                continue
            completed.append(_with_predictions(run, split, predictions))
    return completed, notes


def _compute_predictions(run: FinishedRun, split: str) -> Predictions:
    """Predict the images of a split with the best checkpoint of a run."""
    from digitnet.checkpoints.checkpoint_format import load_checkpoint_model
    from digitnet.checkpoints.recorded_data import open_recorded_data
    from digitnet.training.run_predictions import predict_split

    model = load_checkpoint_model(best_checkpoint(Path(run.path)))
    data = open_recorded_data(model.dataset)
    if data is None:
        raise UsageError("its data is not here, or its data module is not one of digitnet's")
    return predict_split(model, data, "test" if split == "test" else "val")


def _with_predictions(run: FinishedRun, split: str, predictions: Predictions) -> FinishedRun:
    """Return the run with predictions that were computed now, and with figures from them if it has none."""
    accuracy, name = float(predictions.correct.mean()), f"{split}/acc"
    recorded = run.metrics.get(name)
    # Another machine may round differently, which moves an image or two.
    if recorded is not None and abs(recorded - accuracy) * len(predictions.labels) > 2.5:
        raise UsageError(
            f"{run.path}: metrics.json has {name} {recorded}, but the checkpoint has {accuracy} on "
            f"{len(predictions.labels)} images; it was resumed and not finished, or scored on a part of the images"
        )
    from digitnet.analysis.statistics import image_losses

    loss = float(image_losses(predictions.probabilities, predictions.labels).mean())
    metrics = {name: accuracy, f"{split}/loss": loss} | run.metrics
    return dataclasses.replace(run, metrics=metrics, predictions={**run.predictions, split: predictions})
