"""Checks, before training, what Lightning's callbacks would refuse after it has begun."""

import importlib.util

import lightning as L
from lightning.pytorch.callbacks import DeviceStatsMonitor

from digitnet.errors import UsageError, check_argument
from digitnet.training.build import Run
from digitnet.training.datasets import has_validation_data

_OWN_PACKAGES = ("digitnet.", "lightning.")


def check_callbacks(run: Run) -> None:
    """Check the metrics that callbacks monitor, and what `DeviceStatsMonitor` needs.

    Args:
        run: The objects of the run.

    Raises:
        UsageError: If a callback monitors a metric that no part of the run logs, or in the wrong direction, or if the
            device cannot be monitored.
    """
    callbacks: list[L.Callback] = run.trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str):
            _check_monitor(monitor, run)
            _check_mode(monitor, getattr(callback, "mode", None))
        if isinstance(callback, DeviceStatsMonitor):
            _check_device_stats(run.trainer)


def _check_monitor(monitor: str, run: Run) -> None:
    """Refuse a metric that does not exist; a network or a callback of the user may log others."""
    validates = has_validation_data(run.data) and run.trainer.limit_val_batches != 0
    stages = ("train", "val") if validates else ("train",)
    known = [f"{stage}/{metric}" for stage in stages for metric in ("loss", "acc")]
    parts = [run.model, *run.trainer.callbacks]  # type: ignore[attr-defined]
    has_own_parts = not all(type(part).__module__.startswith(_OWN_PACKAGES) for part in parts)
    if monitor in known or (has_own_parts and _canonical(monitor) not in known):
        return
    hint = f"; did you mean {_canonical(monitor)}?" if _canonical(monitor) in known else ""
    check_argument(False, "monitor", monitor, f"a metric that is logged: {', '.join(known)}{hint}")


def _canonical(monitor: str) -> str:
    """Return the name that digitnet gives to a metric with a usual name, such as val_accuracy."""
    name = monitor.lower().replace("_", "/", 1).replace("valid/", "val/").replace("validation/", "val/")
    return name.replace("accuracy", "acc")


def _check_mode(monitor: str, mode: str | None) -> None:
    """Refuse to wait for a higher loss or a lower accuracy."""
    wanted = {"loss": "min", "acc": "max"}.get(monitor.rpartition("/")[2])
    if monitor.startswith(("train/", "val/")) and mode in ("min", "max") and wanted not in (None, mode):
        check_argument(False, "mode", mode, f"{wanted} for the monitor {monitor}")


def _check_device_stats(trainer: L.Trainer) -> None:
    if not trainer.loggers:
        raise UsageError("callbacks=device_stats: needs a logger, such as logger=tensorboard")
    if trainer.strategy.root_device.type == "cpu" and importlib.util.find_spec("psutil") is None:
        raise UsageError("callbacks=device_stats: the package psutil is not installed; run: pip install psutil")
