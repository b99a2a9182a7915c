"""Records the metrics of every epoch in metrics.csv."""

import time
from pathlib import Path
from typing import Any

import lightning as L

from digitnet.training.callbacks.base import EpochEndCallback
from digitnet.training.run_dir import EpochRecord, write_metrics_csv


class EpochLog(EpochEndCallback):
    """Records the metrics of each epoch, for `RunCheckpoint` to write to `metrics.csv`.

    The records are part of the checkpoint, so that a resumed run continues the same table.

    Args:
        csv_path: The table to write. `write` is called by `RunCheckpoint` as soon as the epoch is saved, so that the
            table never has an epoch that the checkpoints lack. If None, the records are only kept in memory.

    Attributes:
        history: One record for each epoch: `epoch` (from 0), `step`, `lr`, `train/loss`, `train/acc`, `val/loss` and
            `val/acc` if the epoch was validated, and `seconds` since the start of the run.
    """

    def __init__(self, csv_path: Path | None = None) -> None:
        self.csv_path = csv_path
        self.history: list[EpochRecord] = []
        self._val_metrics: EpochRecord = {}
        self._val_step = -1  # the number of optimizer steps when they were computed
        self._prior_seconds = 0.0  # spent before the run was resumed
        self._started: float | None = None

    @property
    def best_epoch(self) -> EpochRecord:
        """The record with the highest `val/acc`, the earlier of equals; without validation, the last record."""
        return max(self.history, key=lambda record: record.get("val/acc", record["epoch"] - 1e9))

    @property
    def seconds(self) -> float:
        """Training time in seconds until now, with validation and checkpoints, before and after a resume."""
        return self._prior_seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    def state_dict(self) -> dict[str, Any]:
        """Return the records and the training time, for the checkpoint."""
        validation = {"val_metrics": self._val_metrics, "val_step": self._val_step}
        return {"history": self.history, **validation, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` has returned."""
        self.history, self._val_metrics = state_dict["history"], state_dict["val_metrics"]
        self._val_step = state_dict.get("val_step", -1)  # 0.2.0 and earlier did not record it
        self._prior_seconds = state_dict["seconds"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the last row of the table: the run may have been killed between its checkpoint and its table."""
        if self.history and self.csv_path and trainer.is_global_zero:
            write_metrics_csv(self.csv_path, self.history)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock at the first batch, also of a run that is resumed in the middle of an epoch."""
        if self._started is None:
            self._started = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the validation metrics until the end of the epoch."""
        if not trainer.sanity_checking:
            self._val_metrics = {name: trainer.callback_metrics[name].item() for name in ("val/loss", "val/acc")}
            self._val_step = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Append the record of the epoch."""
        position = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        # With trainer.val_check_interval, the last validation may have been of other weights than those of this record.
        val_metrics = self._val_metrics if self._val_step == trainer.global_step else {}
        train_metrics = {name: trainer.callback_metrics[name].item() for name in ("train/loss", "train/acc")}
        self.history.append(position | train_metrics | val_metrics | {"seconds": self.seconds})
        self._val_metrics = {}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._prior_seconds, self._started = self.seconds, None

    def write(self, trainer: L.Trainer) -> None:
        """Write the table, and print a line for the epoch if there is no progress bar.

        Args:
            trainer: The Trainer of the run.
        """
        if self.csv_path:
            write_metrics_csv(self.csv_path, self.history)
        if trainer.progress_bar_callback is None:
            started = self.history[-2]["seconds"] if len(self.history) > 1 else 0.0
            print(format_epoch(self.history[-1], trainer.max_epochs, started), flush=True)


def format_epoch(record: EpochRecord, max_epochs: int | None, started: float) -> str:
    """Return the line that is printed for an epoch.

    Args:
        record: The record of the epoch.
        max_epochs: The number of epochs of the run, if it is limited.
        started: Training time in seconds at the start of the epoch.
    """
    metrics = [f"{name} {record[name]:.4f}" for name in ("train/loss", "val/loss", "val/acc") if name in record]
    limit = "" if max_epochs in (None, -1) else f"/{max_epochs}"
    return f"epoch {record['epoch'] + 1:.0f}{limit}  {'  '.join(metrics)}  {record['seconds'] - started:.1f} s"
