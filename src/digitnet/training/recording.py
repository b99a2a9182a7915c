"""What a run leaves in its folder: checkpoints/best.ckpt and last.ckpt, metrics.csv (a row an epoch), metrics.json."""

import csv
import io
import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from digitnet import signals
from digitnet.checkpoints import checkpoint_format
from digitnet.errors import RunError
from digitnet.models import DigitClassifier

Row = dict[str, float]


class Recorder(Checkpoint):
    """Keeps the best epoch by `val/acc` (the earlier one of equals; without validation the last) and the last epoch.

    Lightning's ModelCheckpoint saves its "last" only when it saves a "best" too, keeps nothing without validation, and
    forgets the best score when a run goes on elsewhere. Here the rows of all epochs are the state, in the checkpoint.
    Nothing is saved of a run that has diverged. A signal is answered at the next batch, with the state on file.

    `ends` is what the run was told about its end: one that has stopped by itself, as early stopping does, stays stopped
    until it is told something else.
    """

    def __init__(self, folder: Path, ends: dict[str, Any] | None = None) -> None:
        self.folder, self.ends = folder, ends or {}
        self.best_path = folder / "checkpoints" / "best.ckpt"
        self.last_path = folder / "checkpoints" / "last.ckpt"
        self.rows: list[Row] = []
        self.validation: Row = {}
        self.seconds_before = 0.0  # spent by earlier stretches of a resumed run
        self.planned_steps: float | None = None  # by the run that is resumed
        self.stopped_by: dict[str, Any] | None = None  # the `ends` of a run that has stopped by itself
        self.started: float | None = None

    @property
    def best(self) -> Row:
        return max(self.rows, key=lambda row: row.get("val/acc", row["epoch"] - 1e9))  # unvalidated epochs come last

    @property
    def seconds(self) -> float:
        """From the first batch until now, validation and checkpoints included."""
        return self.seconds_before + (0.0 if self.started is None else time.perf_counter() - self.started)

    def state_dict(self) -> dict[str, Any]:
        kept = {"rows": self.rows, "validation": self.validation, "planned_steps": self.planned_steps}
        return kept | {"seconds": self.seconds, "stopped_by": self.stopped_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.validation = state_dict["rows"], state_dict["validation"]
        self.planned_steps, self.seconds_before = state_dict["planned_steps"], state_dict["seconds"]
        self.stopped_by = state_dict.get("stopped_by")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning forgets that a resumed run has stopped by itself; a kill may have come before its last row."""
        trainer.should_stop = self.stopped_by == self.ends
        if self.rows and trainer.is_global_zero:
            write_csv(self.folder / "metrics.csv", self.rows)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signals.listen_again()
        steps = trainer.estimated_stepping_batches
        if self.planned_steps not in (None, steps) and trainer.is_global_zero:
            print(
                f"planned for {self.planned_steps} steps, now for {steps}: from here on the learning rate is that of a "
                "run planned so long, and the outcome that of neither"
            )
        self.planned_steps = steps

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.started is None:
            self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """At the last batch of an epoch the epoch's end is near, and after it there is less to repeat."""
        done = batch_idx + 1
        whole = done % trainer.accumulate_grad_batches == 0  # gradients gathered so far are not saved
        if whole and done < trainer.num_training_batches and stop_asked(trainer, done):
            self.save(trainer, pl_module, self.last_path)
            signals.stop()

    def save(self, trainer: L.Trainer, pl_module: L.LightningModule, path: Path) -> None:
        """Raises RunError instead if a weight or a figure is no number any more."""
        figures = self.rows[-1] if self.rows else {}
        wrong = [name for name, figure in figures.items() if not math.isfinite(figure)]
        assert isinstance(pl_module, DigitClassifier)
        if pl_module.has_diverged():
            wrong.append("a weight or the running loss")
        if wrong:
            raise RunError(
                f"diverged in epoch {trainer.current_epoch + 1}: {wrong[0]} is not finite; try a lower optimizer.lr "
                f"than {pl_module.hparams['lr']:g}. What {self.folder} holds is from before"
            )
        trainer.save_checkpoint(path)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validation = {name: trainer.callback_metrics[name].item() for name in ("val/loss", "val/acc")}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        training = {name: trainer.callback_metrics[name].item() for name in ("train/loss", "train/acc")}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        position = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate}
        self.rows.append(position | training | self.validation | {"seconds": self.seconds})
        self.validation = {}
        self.stopped_by = self.ends if trainer.should_stop else None
        improved = self.best is self.rows[-1]
        # The best goes first: whoever is cut off before the last follows repeats this epoch, and loses nothing.
        self.save(trainer, pl_module, self.best_path if improved else self.last_path)
        if trainer.is_global_zero:
            if improved:
                checkpoint_format.write(self.last_path, self.best_path.read_bytes())
            write_csv(self.folder / "metrics.csv", self.rows)
            if trainer.progress_bar_callback is None:
                print(describe(self.rows[-1], trainer.max_epochs), flush=True)
        if stop_asked(trainer):
            trainer.should_stop = True  # once the loggers have the epoch's figures

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds_before, self.started = self.seconds, None


def stop_asked(trainer: L.Trainer, step: int = 0) -> bool:
    """Whether a signal came; several processes agree on it every ten steps, or one would leave and hang the others."""
    if trainer.world_size == 1:
        return signals.State.received is not None
    if step % 10:
        return False
    received = torch.tensor(signals.State.received or 0, device=trainer.strategy.root_device)
    signals.State.received = int(trainer.strategy.reduce(received, reduce_op="max")) or None
    return signals.State.received is not None


def describe(row: Row, epochs: int | None) -> str:
    shown = [f"{name} {row[name]:.4f}" for name in ("train/loss", "val/loss", "val/acc") if name in row]
    return f"epoch {row['epoch'] + 1:.0f}/{epochs}  {'  '.join(shown)}  {row['seconds']:.1f} s"


def write_csv(path: Path, rows: list[Row]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    checkpoint_format.write(path, table.getvalue().encode())


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def surroundings() -> dict[str, Any]:
    """What a figure depends on besides the code: versions and machine."""
    packages = ("digitnet", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {"versions": versions, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads{gpu}"}
