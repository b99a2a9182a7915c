"""From a composed config to a finished run folder."""

import logging
import shlex
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import RichModelSummary
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from digitnet import checkpoints, recording
from digitnet.data import Augmentation, MNISTDataModule
from digitnet.data.batches import seed_at
from digitnet.errors import UsageError
from digitnet.models import DigitClassifier
from digitnet.recording import Recorder
from digitnet.tensorboard import TensorBoardReport, add_mistakes, add_outcome

Outcome = dict[str, Any]

FINALS = ("val/acc", "val/loss", "test/acc", "test/loss")


@dataclass
class Parts:
    data: MNISTDataModule
    model: DigitClassifier
    trainer: L.Trainer
    recorder: Recorder


class SeedByPosition(L.Callback):
    """Dropout drawn anew for each step of a run, and the same for the same step: a resume needs no saved state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = seed_at(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        if pl_module.device.type == "cpu":
            # torch.manual_seed also formats a stack trace for each absent accelerator: 1.5 ms, as long as an MLP step.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)


def build(config: DictConfig) -> Parts:
    """Raises UsageError if a part refuses its arguments."""
    data = make(config.data, "data")
    L.seed_everything(config.seed, verbose=False)
    model = make(config.model, "model")
    recorder = Recorder(Path(config.folder))
    callbacks = [recorder, TensorBoardReport(), SeedByPosition(config.seed)]
    if config.trainer.get("enable_model_summary", True):
        callbacks.append(RichModelSummary(max_depth=2))
    return Parts(data, model, make_trainer(config.trainer, callbacks), recorder)


def make_trainer(config: DictConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """A Trainer with our callbacks and checkpoint files beside those that the config may ask for."""
    quiet()
    trainer = make(config, "trainer", _partial_=True)
    given = {
        "callbacks": callbacks + (trainer.keywords.get("callbacks") or []),
        "plugins": [checkpoints.AtomicCheckpointIO(), *(trainer.keywords.get("plugins") or [])],
        "enable_progress_bar": trainer.keywords.get("enable_progress_bar", sys.stdout.isatty()),
    }
    try:
        made: L.Trainer = trainer(**given)
        return made
    except Exception as error:  # whatever Lightning has against its arguments
        hint = "; no GPU was found here: trainer.accelerator=cpu" if "backend found" in str(error) else ""
        raise UsageError(f"trainer: {error}{hint}") from error


def make(config: DictConfig, name: str, **given: Any) -> Any:
    try:
        return instantiate(config, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from error
        raise UsageError(f"{name}: {cause or error} (HYDRA_FULL_ERROR=1 shows where)") from error


def quiet() -> None:
    """Leaves out what Lightning tells everyone at every start, advertisements included."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no")  # data.val_size=0 is meant
    warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")
    warnings.filterwarnings("ignore", message=".*torch.jit")  # torch's own way of drawing the graph
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")  # lightning 2.6 with torch 2.15


def run(config: DictConfig, test: bool) -> Outcome:
    """Fits, scores the chosen checkpoint, fills the run folder, and returns what its metrics.json holds."""
    last = Path(config.folder) / "checkpoints" / "last.ckpt"
    resumed = last if config.resume and last.exists() else None
    if resumed and str(config.trainer.get("logger")).count("TensorBoardLogger"):
        # Of what was logged after this checkpoint, the curves forget all.
        step = checkpoints.load(last)["global_step"] + 1
        OmegaConf.update(config, "trainer.logger.purge_step", step, force_add=True)
    parts = build(config)
    data, model, trainer, recorder = parts.data, parts.model, parts.trainer, parts.recorder
    trainer.fit(model, data, ckpt_path=resumed, weights_only=True)
    trainer.strategy.barrier()  # the first process may still be writing
    model.load_state_dict(checkpoints.load(recorder.best_path)["state_dict"])
    outcome = fitted(config, parts)
    if test:
        outcome |= score(trainer, model, data)
    if trainer.is_global_zero:
        record(config, parts, outcome)
    return outcome


def fitted(config: DictConfig, parts: Parts) -> Outcome:
    """What is known of the chosen checkpoint before any test."""
    best = parts.recorder.best
    return {
        "model": type(parts.model).__name__,
        "epoch": best["epoch"] + 1,
        **{name: best[name] for name in ("val/acc", "val/loss") if name in best},
        "train/seconds": parts.recorder.seconds,
        "parameters": sum(parameter.numel() for parameter in parts.model.parameters()),
        "seed": config.seed,
    }


def score(trainer: L.Trainer, model: DigitClassifier, data: MNISTDataModule) -> Outcome:
    """Loss and accuracy on the 10,000 test images, overall and by digit."""
    start = time.perf_counter()
    trainer.test(model, data, verbose=False)
    seconds = time.perf_counter() - start
    figures = {name: figure.item() for name, figure in trainer.callback_metrics.items() if name.startswith("test/")}
    return figures | {"test/seconds": seconds}


def record(config: DictConfig, parts: Parts, outcome: Outcome) -> None:
    """Fills metrics.json and the last of the TensorBoard report, and prints the closing table."""
    folder = Path(config.folder)
    checkpoints.write(folder / "metrics.json", recording.to_json(outcome | recording.surroundings()).encode())
    finals = {f"final/{name.replace('/', '_')}": outcome[name] for name in FINALS if name in outcome}
    add_outcome(parts.trainer, settings(parts, outcome), finals)
    if parts.data.val_size:
        add_mistakes(parts.trainer, parts.model, *parts.data.part("val"))
    for logger in parts.trainer.loggers:
        logger.finalize("success")
    show(outcome)
    print(f"run folder: {folder}\nlook at it: tensorboard --logdir {shlex.quote(str(folder))}")


def settings(parts: Parts, outcome: Outcome) -> dict[str, Any]:
    """What the HPARAMS tab compares runs by."""
    chosen = {"batch_size": parts.data.batch_size, "max_epochs": parts.trainer.max_epochs}
    chosen |= {
        f"augmentation/{name}": amount for name, amount in vars(parts.data.augmentation or Augmentation()).items()
    }
    described = {name: outcome[name] for name in ("model", "seed", "parameters")}
    scalars = {name: str(value) if isinstance(value, list) else value for name, value in parts.model.hparams.items()}
    return described | chosen | scalars


def show(outcome: Outcome) -> None:
    formats = dict.fromkeys(FINALS[::2], ".2%") | dict.fromkeys(FINALS[1::2], ".4f")
    formats |= {"train/seconds": ".1f", "parameters": ","}
    table = Table("figure", f"{outcome['model']}, epoch {outcome['epoch']:.0f}")
    for name in (name for name in formats if name in outcome):
        table.add_row(name, f"{outcome[name]:{formats[name]}}")
    Console().print(table)
