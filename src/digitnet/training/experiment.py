"""From a composed config to a finished run folder."""

import json
import logging
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from filelock import FileLock, Timeout
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback, TQDMProgressBar
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from digitnet import signals
from digitnet.checkpoints import checkpoint_format
from digitnet.data import Augmentation, MNISTDataModule
from digitnet.errors import RunError, UsageError
from digitnet.models import DigitClassifier, DigitModule, Distillation
from digitnet.training import recording
from digitnet.training.callbacks.tensorboard import TensorBoardReport, add_mistakes, add_outcome

Outcome = dict[str, Any]

FINALS = ("val/acc", "val/loss", "test/acc", "test/loss")
ENDS = ("min_epochs", "max_epochs", "min_steps", "max_steps", "max_time", "callbacks")


def build(config: DictConfig) -> tuple[MNISTDataModule, DigitClassifier, L.Trainer, recording.Recorder]:
    """Raises UsageError if a part refuses its arguments."""
    data = make(config.data, "data")
    distillation = make(config.distillation, "distillation") if config.get("distillation") else None
    L.seed_everything(config.seed, verbose=False)  # after the teacher was built: it draws random weights first
    model = make_model(config.model, distillation)
    recorder = recording.Recorder(Path(config.run_dir), ends(config))
    callbacks: list[L.Callback] = [recorder, TensorBoardReport(settings(model, data, config))]
    if config.compile:
        # Not before the graph was traced for TensorBoard: a compiled network cannot be.
        callbacks.append(LambdaCallback(on_train_start=lambda trainer, module: module.net.compile()))
    if config.get("weight_averaging"):
        callbacks.append(make(config.weight_averaging, "weight_averaging"))
    return data, model, make_trainer(config.trainer, callbacks), recorder


def make_trainer(config: DictConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """A Trainer with our callbacks and checkpoint files beside those that the config may ask for."""
    quiet()
    # Lightning sets this for those who fork. With it, torch looks for a GPU driver on the disk at each
    # optimiser step.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    trainer = make(config, "trainer", _partial_=True)
    progress = trainer.keywords.get("enable_progress_bar", sys.stdout.isatty())
    # Lightning's choice, Rich, is refreshed at every step whatever its refresh_rate says.
    bars = [TQDMProgressBar(refresh_rate=20)] if progress else []
    given = {
        "callbacks": [*callbacks, *bars, *as_list(trainer.keywords.get("callbacks"))],
        "plugins": [checkpoint_format.AtomicCheckpointIO(), *as_list(trainer.keywords.get("plugins"))],
        "enable_progress_bar": progress,
        "enable_model_summary": False,  # `run` prints it; a callback would be called six times a step
    }
    try:
        made: L.Trainer = trainer(**given)
        return made
    except Exception as error:  # whatever Lightning has against its arguments
        if "No supported gpu backend" in str(error):
            raise UsageError("trainer.accelerator=gpu: this machine has no GPU; use trainer.accelerator=cpu") from error
        raise UsageError(f"trainer: {error}") from error


def make(config: DictConfig, name: str, **given: Any) -> Any:
    try:
        return instantiate(config, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from error
        raise UsageError(f"{name}: {cause or error} (HYDRA_FULL_ERROR=1 shows where)") from error


def make_model(config: DictConfig, distillation: Distillation | None) -> DigitClassifier:
    """Build the model. Hydra would take the distillation, a dataclass, for a part of the config."""
    model_class = make(config, "model", _partial_=True)
    try:
        model: DigitClassifier = model_class(distillation=distillation)
    except UsageError:
        raise
    except Exception as error:  # whatever torch raises for the arguments
        raise UsageError(f"model: {error} (HYDRA_FULL_ERROR=1 shows where)") from error
    return model


def as_list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]


def quiet() -> None:
    """Leaves out what Lightning tells everyone at every start, advertisements included."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "Total length of `list` across ranks is zero",  # data.val_size=0 is meant
        "It is recommended to use .* sync_dist",  # the processes have agreed before
        "Precision .* is not supported by the model summary",
        ".*torch.jit",  # torch's own way of drawing the graph
        ".*LeafSpec.*deprecated",  # lightning 2.6 with torch 2.15
    ):
        warnings.filterwarnings("ignore", message=message)


def run(config: DictConfig, test: bool) -> Outcome:
    """Fits, scores the chosen checkpoint, fills the run folder, and returns what its metrics.json holds.

    In a sweep that is started again, a job that was finished returns what it had found.
    """
    with only_one(Path(config.run_dir)):
        checkpoint_format.sweep_leftovers(Path(config.run_dir))
        return found(config) or fit_and_score(config, test)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Raises UsageError while another process trains in the folder. The lock ends with the process that holds it."""
    if "LOCAL_RANK" in os.environ:  # a run's first process locks for the others
        yield
        return
    try:
        with FileLock(folder.resolve() / ".lock", blocking=False, is_singleton=True):  # its holder may take it twice
            yield
    except Timeout as error:
        raise UsageError(f"{folder}: another process trains there; wait for it, or choose another folder") from error


def found(config: DictConfig) -> Outcome | None:
    """The outcome of a run that has gone as far as the config asks for, or None."""
    folder = Path(config.run_dir)
    path, last = folder / "metrics.json", folder / "checkpoints" / "last.ckpt"
    if not (path.is_file() and last.is_file()):
        return None
    try:
        outcome: Outcome = json.loads(path.read_text())
    except ValueError:
        return None  # of no use to anyone; the run is scored again
    if config.test and "test/acc" not in outcome:
        return None
    checkpoint = checkpoint_format.load(last)
    epochs, steps = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"], checkpoint["global_step"]
    limits = (config.trainer.get("max_epochs") or -1, epochs), (config.trainer.get("max_steps") or -1, steps)
    over = any(0 < limit <= done for limit, done in limits)
    stopped = checkpoint["callbacks"]["Recorder"].get("stopped_by") == ends(config)
    return outcome if outcome.get("steps") == steps and (over or stopped) else None


def ends(config: DictConfig) -> dict[str, Any]:
    """What the config says about the end of a run, as it was typed."""
    told = OmegaConf.to_container(config.trainer, resolve=False)
    assert isinstance(told, dict)
    return {name: told.get(name) for name in ENDS}


def fit_and_score(config: DictConfig, test: bool) -> Outcome:
    last = checkpoint_to_resume(config)
    if "TensorBoardLogger" in str(config.trainer.get("logger")):
        # Of what was logged after this checkpoint, or before there was any, the curves forget all.
        step = checkpoint_format.load(last)["global_step"] + 1 if last else 0
        OmegaConf.update(config, "trainer.logger.purge_step", step, force_add=True)
    data, model, trainer, recorder = build(config)
    if trainer.is_global_zero and config.trainer.get("enable_model_summary", True):
        print(ModelSummary(model, max_depth=2))
    fit(trainer, model, data, last, Path(config.run_dir))
    trainer.strategy.barrier()  # the first process may still be writing
    model.load_state_dict(checkpoint_format.load(recorder.best_path)["state_dict"])
    model.eval()  # Lightning leaves it as it was trained, with dropout
    outcome: Outcome = {
        "model": type(model).__name__,
        "epoch": recorder.best["epoch"] + 1,
        "steps": trainer.global_step,
        **{name: recorder.best[name] for name in FINALS if name in recorder.best},
        "train/seconds": recorder.seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": config.seed,
    }
    if test:
        outcome |= test_figures(trainer, model, data)
    if trainer.is_global_zero:
        report(config, trainer, model, data, outcome)
    return outcome


def fit(trainer: L.Trainer, model: DigitClassifier, data: MNISTDataModule, last: Path | None, folder: Path) -> None:
    try:
        with signals.postponed():
            trainer.fit(model, data, ckpt_path=last, weights_only=True)
    except signals.Stopped:
        if trainer.is_global_zero:
            place = shlex.quote(os.path.relpath(folder))
            sys.stderr.write(f"digitnet: stopped at step {trainer.global_step}; resume={place} goes on from there\n")
        raise


def report(
    config: DictConfig, trainer: L.Trainer, model: DigitClassifier, data: MNISTDataModule, outcome: Outcome
) -> None:
    """metrics.json, what TensorBoard shows of a finished run, and the end of the command's output."""
    folder = Path(config.run_dir)
    checkpoint_format.write(folder / "metrics.json", recording.to_json(outcome | recording.surroundings()).encode())
    add_outcome(trainer, settings(model, data, config), outcome)
    if data.val_size:
        add_mistakes(trainer, model, *data.split("val"))
    for logger in trainer.loggers:
        logger.finalize("success")
    shown = {name: outcome[name] for name in (*FINALS, "train/seconds", "parameters") if name in outcome}
    show(f"{outcome['model']}, epoch {outcome['epoch']}", shown)
    place = os.path.relpath(folder)
    print(f"run folder: {place}\nlook at it: tensorboard --logdir {shlex.quote(place)}")


def checkpoint_to_resume(config: DictConfig) -> Path | None:
    """None for a new run, and for one that was stopped before its first checkpoint.

    What a sweep finds in its folder is its own: it is checked to be before.
    """
    last = Path(config.run_dir) / "checkpoints" / "last.ckpt"
    return last if last.exists() else None


def test_figures(trainer: L.Trainer, model: DigitModule, data: MNISTDataModule) -> Outcome:
    """Loss and accuracy on the test images, overall and by digit."""
    start = time.perf_counter()
    trainer.test(model, data, verbose=False)
    seconds = time.perf_counter() - start
    figures = {name: figure.item() for name, figure in trainer.callback_metrics.items() if name.startswith("test/")}
    if not all(map(math.isfinite, figures.values())):
        raise RunError("test/loss is not finite; of the run itself, best.ckpt and metrics.csv are whole")
    return figures | {"test/seconds": seconds}


def settings(model: DigitClassifier, data: MNISTDataModule, config: DictConfig) -> dict[str, Any]:
    """What the HPARAMS tab compares runs by."""
    chosen = {"model": type(model).__name__, "seed": config.seed, "max_epochs": config.trainer.max_epochs}
    parts = {
        name: OmegaConf.to_container(config[name]) for name in ("weight_averaging", "distillation") if config.get(name)
    }
    augmentation = vars(data.augmentation or Augmentation())
    return chosen | dict(model.hparams) | {"batch_size": data.batch_size, "augmentation": augmentation} | parts


def show(title: str, figures: Outcome) -> None:
    table = Table("figure", title)
    for name, figure in figures.items():
        table.add_row(
            name, f"{figure:.2%}" if "/acc" in name else f"{figure:.4f}" if "/loss" in name else f"{figure:,.0f}"
        )
    Console().print(table)
