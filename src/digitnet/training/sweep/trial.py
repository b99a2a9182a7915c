"""Runs the trials of a worker, one after another in this process.

A process for each trial would import torch again, six seconds each. Nothing carries over from one run to the next: a
run sets all its seeds, and builds all its objects.
"""

import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import lightning as L
import optuna
from omegaconf import DictConfig
from optuna.trial import TrialState

from digitnet.errors import DivergenceError, RunError, UsageError, check_argument
from digitnet.signals import defer_signals
from digitnet.training.build import build_run
from digitnet.training.datasets import has_validation_data
from digitnet.training.preflight import validate_run
from digitnet.training.run_dir import RunResult
from digitnet.training.sweep.pruning import Pruning
from digitnet.training.sweep.search_space import SweepSettings, short
from digitnet.training.sweep.study import claim_trial, trial_dir

NOTE = "note"  # attribute of a trial: why it failed or diverged

Train = Callable[[list[str], Path, Sequence[L.Callback]], RunResult]
"""Trains one run, given its overrides, its folder and additional callbacks, or continues it."""


def validate_trial(config: DictConfig) -> None:
    """Check everything that a run of a trial needs, and leave no trace.

    Args:
        config: The composed config of `train`, with Hydra's own node.

    Raises:
        UsageError: If the run could not start, or would have no validation accuracy.
    """
    validate_run(config)
    run = build_run(config)
    check_argument(run.trainer.world_size == 1, "trainer.devices", run.trainer.world_size, "1: one process a trial")
    check_argument(has_validation_data(run.data), "data.val_size", 0, "above 0: a sweep compares validation accuracies")
    limit = run.trainer.limit_val_batches
    check_argument(limit != 0, "trainer.limit_val_batches", limit, "above 0: a sweep compares validation accuracies")


def run_trials(study: optuna.Study, settings: SweepSettings, seed: int, train: Train) -> int:
    """Run trials until the study has as many as were asked for.

    Args:
        study: The study, which other workers may share.
        settings: The command line.
        seed: Seed of a trial, or of the first of its runs.
        train: Trains one run.

    Returns:
        How many trials of this worker have failed.

    Raises:
        RunError: If the files of a run cannot be written.
        ShutdownRequested: If a signal has ended the current run, which continues at the next start.
    """
    failures = 0
    while True:
        with claim_trial(study, settings) as trial:
            if trial is None:
                return failures
            failures += _run_trial(trial, settings, seed, train) == TrialState.FAIL


def _run_trial(trial: optuna.Trial, settings: SweepSettings, seed: int, train: Train) -> TrialState:
    """Run a trial, tell the study its result, and print a line."""
    start = time.perf_counter()
    params = " ".join(f"{name}={short(value)}" for name, value in trial.params.items())
    print(f"trial {trial.number}: {params}", end="  ", flush=True)
    state, value, text = _train_seeds(trial, settings, seed, train)
    with defer_signals():
        if text:
            trial.set_user_attr(NOTE, text)
        trial.study.tell(trial, value, state)
    result = f"val/acc {value:.2%}" if value is not None else text or "pruned"
    print(f"{result}  {time.perf_counter() - start:.1f} s", flush=True)
    return state


def _train_seeds(
    trial: optuna.Trial, settings: SweepSettings, seed: int, train: Train
) -> tuple[TrialState, float | None, str]:
    """Train the runs of a trial, and return its state, its value and a note."""
    folder, pruning = trial_dir(settings.study_dir, trial.number), Pruning(trial)
    overrides = [*settings.overrides(trial.params), "test=false"]
    accuracies: list[float] = []
    try:
        with (folder / "output.txt").open("a", buffering=1) as output, redirect_stdout(output):
            for run_seed in range(seed, seed + settings.seeds):
                if settings.seeds == 1:
                    result = train(overrides, folder, [pruning])
                else:  # only the first seed is pruned, since the trials are compared epoch by epoch
                    seeded = [*(text for text in overrides if not text.startswith("seed=")), f"seed={run_seed}"]
                    result = train(seeded, folder / f"seed_{run_seed}", [] if accuracies else [pruning])
                if pruning.pruned:
                    return TrialState.PRUNED, None, ""
                if "val/acc" not in result:
                    raise UsageError("no epoch was validated; a sweep compares validation accuracies")
                accuracies.append(result["val/acc"])
    except DivergenceError as error:  # the sampler learns to avoid such values from pruned trials, not from failed ones
        return TrialState.PRUNED, None, str(error)
    except (RunError, OSError):
        raise
    except Exception as error:  # whatever a network does with values that do not suit it
        (folder / "error.txt").write_text("".join(traceback.format_exception(error)))
        return TrialState.FAIL, None, f"failed: {' '.join(str(error).split())}"
    return TrialState.COMPLETE, statistics.fmean(accuracies), ""
