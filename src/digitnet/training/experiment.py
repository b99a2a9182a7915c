"""Trains, tests and records a run: read `run_experiment` first, then down."""

import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from digitnet.checkpoints.atomic import atomic_write, remove_partial_files
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.distributed import is_main_process
from digitnet.environment import environment_info
from digitnet.errors import RunError
from digitnet.models import DigitModule
from digitnet.signals import ShutdownRequested, defer_signals
from digitnet.training.build import Run, build_run, logger_nodes
from digitnet.training.callbacks.logger_report import log_final_metrics
from digitnet.training.callbacks.tensorboard import log_hparams
from digitnet.training.datasets import has_test_data
from digitnet.training.processes import run_together
from digitnet.training.provenance import code_commit, run_command
from digitnet.training.resume import load_finished_result
from digitnet.training.run_dir import (
    FINAL_METRICS,
    RunResult,
    best_checkpoint,
    last_checkpoint,
    lock_run_dir,
    metrics_json,
    to_json,
)
from digitnet.training.run_predictions import predict_validation, write_predictions
from digitnet.training.visualization import visualize_run


def run_experiment(config: DictConfig, test: bool, callbacks: Sequence[L.Callback] = ()) -> RunResult:
    """Train a model, score it, and fill the run folder.

    A run that was stopped continues from its last checkpoint. A run that is finished, such as a job of a repeated
    sweep, is not repeated.

    Args:
        config: The composed config of `train`.
        test: Whether to score the best epoch on the test images.
        callbacks: Callbacks to add to those of a run.

    Returns:
        The result, as in `metrics.json`.

    Raises:
        UsageError: If another process trains in the run folder.
        RunError: If the run diverges, or a file cannot be written.
        ShutdownRequested: If a signal has ended the run.
    """
    run_dir = Path(config.run_dir)
    with lock_run_dir(run_dir):
        if is_main_process():
            remove_partial_files(run_dir)
        return load_finished_result(config) or _train_and_test(config, test, callbacks)


def _train_and_test(config: DictConfig, test: bool, callbacks: Sequence[L.Callback]) -> RunResult:
    """Fit the model, load its best epoch, score it, and write the results."""
    run_dir = Path(config.run_dir)
    checkpoint = last_checkpoint(run_dir) if last_checkpoint(run_dir).exists() else None
    _purge_later_events(config, checkpoint)
    run = build_run(config, callbacks)
    if run.trainer.is_global_zero and config.trainer.get("enable_model_summary", True):
        print(ModelSummary(run.model, max_depth=2))
    origin = _collect_origin(run) if run.trainer.is_global_zero else {}
    with run_together(run.trainer, config.peer_timeout, run_dir):
        _fit(run, checkpoint, run_dir)
        _load_best_epoch(run, run_dir)
        result = _collect_result(run, config.seed) | origin
        if test and has_test_data(run.data):
            result |= score_test_set(run.trainer, run.model, run.data)
    if run.trainer.is_global_zero:
        _write_results(run, run_dir, result, config.plots)
    return result


def _purge_later_events(config: DictConfig, checkpoint: Path | None) -> None:
    """Make TensorBoard ignore events that were logged after the checkpoint, since those steps are repeated."""
    nodes = [node for node in logger_nodes(config) if "TensorBoardLogger" in node.get("_target_", "")]
    step = load_checkpoint(checkpoint)["global_step"] + 1 if checkpoint and nodes else 0
    for node in nodes:
        OmegaConf.update(node, "purge_step", step, force_add=True)


def _collect_origin(run: Run) -> RunResult:
    """Return what is known of the run before it starts, and was not changed while it ran: the network, the code."""
    return {
        "multiply_adds": run.model.count_multiply_adds(),
        "command": run_command(),
        "commit": code_commit(),
    }


def _fit(run: Run, checkpoint: Path | None, run_dir: Path) -> None:
    """Train until the end, or until a signal has stopped the run with its state saved."""
    try:
        with defer_signals():
            run.trainer.fit(run.model, run.data, ckpt_path=checkpoint, weights_only=True)
    except ShutdownRequested:
        if run.trainer.is_global_zero:
            path = shlex.quote(os.path.relpath(run_dir))
            sys.stderr.write(f"digitnet: stopped at step {run.trainer.global_step}; resume={path} continues the run\n")
        raise


def _load_best_epoch(run: Run, run_dir: Path) -> None:
    """Put the weights of the best epoch into the model, in evaluation mode, which Lightning does not restore.

    The first process has written the checkpoint, perhaps to a disk of its own, so it gives the weights to the others.
    """
    weights = load_checkpoint(best_checkpoint(run_dir))["state_dict"] if run.trainer.is_global_zero else {}
    run.model.load_state_dict(run.trainer.strategy.broadcast(weights))
    run.model.eval()


def _collect_result(run: Run, seed: int) -> RunResult:
    """Return what is known of the run before the test."""
    best = run.epoch_log.best_epoch
    return {
        "model": type(run.model).__name__,
        "data": run.model.dataset.name if run.model.dataset else None,
        "classes": list(run.model.class_names),
        "epoch": best["epoch"] + 1,
        "epochs": len(run.epoch_log.history),
        "steps": run.trainer.global_step,
        **{name: best[name] for name in FINAL_METRICS if name in best},
        "train/seconds": run.epoch_log.seconds,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "seed": seed,
    }


def score_test_set(trainer: L.Trainer, model: DigitModule, data: L.LightningDataModule) -> dict[str, Any]:
    """Score a model on the test images.

    Args:
        trainer: The Trainer to score with.
        model: The model, with the weights to score.
        data: The data module.

    Returns:
        `test/loss`, `test/acc`, `test/acc/CLASS` for each class, and `test/seconds`. Accuracies are fractions.

    Raises:
        RunError: If the loss is not finite.
    """
    start = time.perf_counter()
    trainer.test(model, data, verbose=False)
    seconds = time.perf_counter() - start
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    if not all(map(math.isfinite, metrics.values())):
        raise RunError("test/loss is not finite; best.ckpt and metrics.csv of the run are intact")
    return metrics | {"test/seconds": seconds}


def _write_results(run: Run, run_dir: Path, result: RunResult, plots: bool) -> None:
    """Write the predictions, metrics.json, the plots and the final records of the loggers, and print the result."""
    val_logits = predict_validation(run)
    write_predictions(run, run_dir, result["epoch"], val_logits)
    atomic_write(metrics_json(run_dir), to_json(result | environment_info()).encode())
    log_hparams(run.trainer, run.hparams, result)
    log_final_metrics(run.trainer, result)
    if plots:
        visualize_run(run, run_dir, val_logits)
    for logger in run.trainer.loggers:
        logger.finalize("success")
    shown = {name: result[name] for name in (*FINAL_METRICS, "train/seconds", "parameters") if name in result}
    print_metrics(f"{result['model']}, epoch {result['epoch']}", shown)
    path = os.path.relpath(run_dir)
    print(f"run folder: {path}")
    if any(isinstance(logger, TensorBoardLogger) for logger in run.trainer.loggers):
        print(f"view it with: tensorboard --logdir {shlex.quote(path)}")


def print_metrics(title: str, metrics: dict[str, Any]) -> None:
    """Print a table of metrics: accuracies in per cent, losses with four decimals, the rest as whole numbers.

    Args:
        title: Heading of the column of values.
        metrics: The values by name.
    """
    table = Table("metric", title)
    for name, value in metrics.items():
        text = f"{value:.2%}" if "/acc" in name else f"{value:.4f}" if "/loss" in name else f"{value:,.0f}"
        table.add_row(name, text)
    Console().print(table)
