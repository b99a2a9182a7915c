"""Builds the objects of a run from a composed config: data module, model, callbacks and Trainer."""

import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch.nn
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import LambdaCallback, ProgressBar
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, ListConfig, OmegaConf

from digitnet.checkpoints.lightning_io import AtomicCheckpointIO
from digitnet.data import Augmentation
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitClassifier, Distillation
from digitnet.models.registry import import_modules, model_name
from digitnet.training.callbacks import (
    EpochLog,
    GracefulStop,
    Histograms,
    LoggerReport,
    RunCheckpoint,
    RunLength,
    TensorBoardReport,
    TimedProgressBar,
)
from digitnet.training.datasets import accepted_data_config, check_teacher, num_classes_argument
from digitnet.training.lightning_messages import silence_lightning
from digitnet.training.processes import cluster_environment
from digitnet.training.provenance import describe_run
from digitnet.training.run_dir import metrics_csv
from digitnet.training.step_overhead import NoProfiler, remove_empty_step_hooks

_STOP_CRITERIA = ("min_epochs", "max_epochs", "min_steps", "max_steps", "max_time", "callbacks")


@dataclass(frozen=True)
class Run:
    """The objects of a run."""

    data: L.LightningDataModule
    """The data module."""
    model: DigitClassifier
    """The model, with its initial weights."""
    trainer: L.Trainer
    """The Trainer, with the callbacks of the run."""
    epoch_log: EpochLog
    """The records of the epochs."""
    hparams: dict[str, Any]
    """The settings by which TensorBoard compares runs."""


def build_run(config: DictConfig, callbacks: Sequence[L.Callback] = ()) -> Run:
    """Build the objects that a config describes.

    Args:
        config: The composed config of `train`.
        callbacks: Callbacks to add to those of a run.

    Returns:
        The objects. No file was written.

    Raises:
        UsageError: If one of the classes refuses its arguments.
    """
    run_dir = Path(config.run_dir)
    import_modules(config.get("imports"))  # of no effect, unless this is a process that a launcher has started
    data = build_data(config.data)
    distillation = instantiate(config.distillation, "distillation") if config.get("distillation") else None
    if distillation:
        check_teacher(distillation.teacher, data)
    # The seed is set after the teachers were built, so that they do not change the initial weights of the student.
    L.seed_everything(config.seed, verbose=False)
    model = _build_model(config.model, distillation, num_classes_argument(config.model, data))
    hparams = collect_hparams(config, model, data)
    epoch_log = EpochLog(metrics_csv(run_dir))
    run_checkpoint = RunCheckpoint(run_dir, epoch_log)
    # Each of the first four relies on what those before it have done at the end of an epoch.
    all_callbacks: list[L.Callback] = [
        RunLength(stop_criteria(config)),
        epoch_log,
        run_checkpoint,
        GracefulStop(run_checkpoint),
        TensorBoardReport(hparams, _describe_run(config, model)),
        *_optional_callbacks(config, hparams),
        *callbacks,
    ]
    trainer = build_trainer(config.trainer, all_callbacks, config.peer_timeout)
    remove_empty_step_hooks(trainer, model)
    return Run(data, model, trainer, epoch_log, hparams)


def build_data(config: DictConfig) -> L.LightningDataModule:
    """Build the data module.

    Args:
        config: The `data` node of a config. Keys that the class does not accept are left out.

    Returns:
        The data module; no data was read yet.

    Raises:
        UsageError: If the class refuses its arguments, or is not a LightningDataModule.
    """
    data = instantiate(accepted_data_config(config), "data")
    if not isinstance(data, L.LightningDataModule):
        raise UsageError(f"data._target_={config._target_}: must be a subclass of lightning.LightningDataModule")
    return data


def _build_model(config: DictConfig, distillation: Distillation | None, classes: dict[str, int]) -> DigitClassifier:
    """Build the model. Hydra would convert a dataclass among the arguments to a config, so it is passed afterwards."""
    model = instantiate(config, "model", _partial_=distillation is not None, **classes)
    if distillation is not None:
        try:
            model = model(distillation=distillation)
        except UsageError:
            raise
        except Exception as error:  # whatever the constructor of a custom network raises
            raise UsageError(f"model: {error} (HYDRA_FULL_ERROR=1 shows where)") from error
    if not isinstance(model, DigitClassifier):
        raise UsageError(f"model._target_={config._target_}: must be a subclass of digitnet.DigitClassifier")
    return model


def _describe_run(config: DictConfig, model: DigitClassifier) -> dict[str, str]:
    """Describe the run. The table of the layers is the first thing that calls the network."""
    try:
        return describe_run(config, model)
    except Exception as error:  # whatever a custom network raises
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UsageError(
            f"model: {model_name(type(model))} fails on a batch of images ({reason}); its constructor must assign "
            f"self.net, which takes pixels [N, 1, 28, 28] and returns logits [N, {model.num_classes}]"
        ) from error


def _optional_callbacks(config: DictConfig, hparams: dict[str, Any]) -> list[L.Callback]:
    """Build the callbacks that depend on settings."""
    callbacks: list[L.Callback] = [Histograms()] if config.tensorboard.histograms else []
    if any("TensorBoardLogger" not in node.get("_target_", "") for node in logger_nodes(config)):
        callbacks.append(LoggerReport(hparams))
    if config.compile:
        # Compiled after TensorBoardReport has traced the graph, because a compiled network cannot be traced.
        callbacks.append(LambdaCallback(on_train_start=_compile_network))
    if config.get("weight_averaging"):
        callbacks.append(instantiate(config.weight_averaging, "weight_averaging"))
    return callbacks


def logger_nodes(config: DictConfig) -> list[DictConfig]:
    """Return the nodes of the loggers in a config: of one, of a list, or of several with names.

    Args:
        config: The composed config of `train`.
    """
    node = config.trainer.get("logger")
    if isinstance(node, DictConfig):
        nodes = [node] if "_target_" in node else list(node.values())
    else:
        nodes = list(node) if isinstance(node, ListConfig) else []
    return [each for each in nodes if isinstance(each, DictConfig)]


def _compile_network(trainer: L.Trainer, model: L.LightningModule) -> None:
    assert isinstance(model.net, torch.nn.Module)
    model.net.compile()


def build_trainer(config: DictConfig, callbacks: list[L.Callback], peer_timeout: float = 300) -> L.Trainer:
    """Build a Trainer.

    Args:
        config: The `trainer` node of a config.
        callbacks: Callbacks to add to those of the config.
        peer_timeout: Seconds that the processes of a run wait for each other, at the start and in each exchange. A
            strategy that the config builds itself keeps its own timeout.

    Returns:
        The Trainer, which writes its checkpoints through `AtomicCheckpointIO`.

    Raises:
        UsageError: If Lightning refuses the arguments.
    """
    is_number = isinstance(peer_timeout, int | float) and not isinstance(peer_timeout, bool)
    check_argument(is_number and 0 < peer_timeout < math.inf, "peer_timeout", peer_timeout, "above 0 seconds")
    silence_lightning()
    # Lightning sets this variable for programs that fork. It makes torch look for a GPU driver on the disk in each
    # optimizer step.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    partial = instantiate(config, "trainer", _partial_=True)
    logger, configured = partial.keywords.get("logger"), _as_list(partial.keywords.get("callbacks"))
    has_bar = any(isinstance(callback, ProgressBar) for callback in configured)
    show_progress = partial.keywords.get("enable_progress_bar", has_bar or sys.stdout.isatty())
    # Lightning's default, the Rich progress bar, is redrawn in each step whatever its refresh_rate is.
    progress_bars = [TimedProgressBar()] if show_progress and not has_bar else []
    kwargs = {
        # Lightning would take null for its default logger.
        "logger": logger if isinstance(logger, bool) else _as_list(logger) or False,
        "callbacks": [*callbacks, *progress_bars, *configured],
        "plugins": [
            AtomicCheckpointIO(),
            *_as_list(partial.keywords.get("plugins")),
            *cluster_environment(_as_list(partial.keywords.get("plugins")), partial.keywords.get("strategy")),
        ],
        "profiler": partial.keywords.get("profiler") or NoProfiler(),
        "enable_progress_bar": show_progress,
        "enable_model_summary": False,  # run_experiment prints it; as a callback it would cost time in each step
    }
    if SLURMEnvironment.detect():
        # In a SLURM job Lightning loads the weights of any `hpc_ckpt_*.ckpt` in this directory instead of those that
        # it was given, so it must be a directory that never holds such files.
        kwargs["default_root_dir"] = Path(partial.keywords.get("default_root_dir") or ".") / "lightning"
    try:
        trainer: L.Trainer = partial(**kwargs)
    except Exception as error:  # Lightning raises several types
        if "No supported gpu backend" in str(error) or "accelerator is not available" in str(error):
            name = partial.keywords.get("accelerator", "gpu")
            hardware = "GPU" if name in ("gpu", "cuda") else f"accelerator {name}"
            raise UsageError(
                f"trainer.accelerator={name}: this machine has no {hardware}; use trainer.accelerator=cpu"
            ) from error
        raise UsageError(f"trainer: {error}") from error
    if isinstance(trainer.strategy, DDPStrategy) and isinstance(partial.keywords.get("strategy", "auto"), str):
        trainer.strategy._timeout = timedelta(seconds=peer_timeout)
    return trainer


def instantiate(config: DictConfig | dict[str, Any], name: str, **kwargs: Any) -> Any:
    """Call the class or function that a config node names as its `_target_`.

    Args:
        config: The node.
        name: The key of the node, for the error message.
        **kwargs: Arguments to add to those of the node.

    Returns:
        What the class or function returns.

    Raises:
        UsageError: If the class or function refuses its arguments.
    """
    try:
        return hydra_instantiate(config, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError):
            raise UsageError(_describe_missing_package(name, error, cause)) from error
        raise UsageError(f"{name}: {cause or error} (HYDRA_FULL_ERROR=1 shows where)") from error


def _describe_missing_package(name: str, error: InstantiationException, cause: ModuleNotFoundError) -> str:
    """State which key needs which package, and the command that installs it."""
    key = re.search(r"full_key: (\S+)", str(error))
    requirement = re.search(r"pip install (?:-U )?['\"]?([\w.-]+)", str(cause))  # Lightning adds bounds of versions
    package = requirement[1] if requirement else cause.name or str(cause)
    path = key[1] if key and key[1].startswith(f"{name}.") else name
    return f"{path}: the package {package} is not installed; run: pip install {package}"


def _as_list(value: Any) -> list[Any]:
    """Return one or several objects as a list; several may have names, of which null stands for none."""
    if isinstance(value, dict):
        return [each for each in value.values() if each is not None]
    return value if isinstance(value, list) else [] if value is None else [value]


def stop_criteria(config: DictConfig) -> dict[str, Any]:
    """Return the settings of the Trainer that can end a run, with interpolations as they were typed.

    Args:
        config: The composed config of `train`.

    Returns:
        The values by name; None if a name is not in the config.
    """
    trainer = OmegaConf.to_container(config.trainer, resolve=False)
    assert isinstance(trainer, dict)
    return {name: trainer.get(name) for name in _STOP_CRITERIA}


def collect_hparams(config: DictConfig, model: DigitClassifier, data: L.LightningDataModule) -> dict[str, Any]:
    """Return the settings by which TensorBoard's HPARAMS tab compares runs.

    Args:
        config: The composed config of `train`.
        model: The model.
        data: The data module.

    Returns:
        The settings by name.
    """
    run = {"model": type(model).__name__, "seed": config.seed, "max_epochs": config.trainer.max_epochs}
    components = {
        name: OmegaConf.to_container(config[name]) for name in ("weight_averaging", "distillation") if config.get(name)
    }
    batch_size = getattr(data, "batch_size", None)  # a data module of your own need not have one
    augmentation = getattr(data, "augmentation", None)
    amounts = vars(augmentation if isinstance(augmentation, Augmentation) else Augmentation())
    return run | dict(model.hparams) | {"batch_size": batch_size, "augmentation": amounts} | components
