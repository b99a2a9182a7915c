"""Checks everything that a run needs before anything is created."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from digitnet.checkpoints.atomic import check_writable
from digitnet.checkpoints.checkpoint_format import MAX_BYTES, check_loadable, load_checkpoint
from digitnet.distributed import is_main_process
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitClassifier
from digitnet.training.build import build_run
from digitnet.training.callback_checks import check_callbacks
from digitnet.training.datasets import check_data
from digitnet.training.processes import require_matching_processes
from digitnet.training.resume import (
    completed_epochs,
    load_finished_result,
    require_matching_checkpoint,
    require_unchanged_config,
)
from digitnet.training.resume_overrides import read_overrides
from digitnet.training.run_dir import last_checkpoint, lock_run_dir

# Settings by which the sweepers for Optuna, Nevergrad and Ax look for the highest value of a job, not for the lowest.
_MAXIMIZING = {"direction": "maximize", "optim.maximize": "true", "ax_config.experiment.minimize": "false"}


def validate_run(config: DictConfig) -> None:
    """Try everything that a run needs, and leave no trace.

    Args:
        config: The composed config of `train`, with Hydra's own node.

    Raises:
        UsageError: If the run could not start.
    """
    is_sweep, run_dir = config.hydra.mode == RunMode.MULTIRUN, Path(config.run_dir)
    check_argument(config.test in (None, True, False), "test", config.test, "true, false or null")
    for key in ("compile", "plots", "tensorboard.histograms"):
        value = OmegaConf.select(config, key)
        check_argument(value in (True, False), key, value, "true or false")
    check_argument(not (is_sweep and config.resume), "resume", config.resume, "given to one run, not to a sweep")
    _require_maximization(config.hydra.sweeper)
    check_writable(run_dir, output_dir_key(config))
    require_unused_run_dir(config)
    run = build_run(config)
    check_loadable(run.model)
    _check_checkpoint_size(run.model, bool(config.get("weight_averaging")))
    check_data(run.data, run.model)
    _check_trainer(run.trainer, run.model, is_sweep)
    check_callbacks(run)
    if last_checkpoint(run_dir).exists():
        checkpoint = load_checkpoint(last_checkpoint(run_dir))
        require_unchanged_config(config, run_dir)
        require_matching_checkpoint(run.model, checkpoint, bool(config.get("weight_averaging")), run_dir)
        done, limit = completed_epochs(checkpoint), run.trainer.max_epochs
        reachable = limit in (None, -1) or limit >= done
        check_argument(reachable, "trainer.max_epochs", limit, f"at least {done}, the epochs that are done")


def _require_maximization(sweeper: DictConfig) -> None:
    """Refuse a sweeper that would look for the lowest value, as Hydra's plugins do unless they are told otherwise."""
    for key, maximizing in _MAXIMIZING.items():
        value = OmegaConf.select(sweeper, key)
        values = value if isinstance(value, ListConfig) else [] if value is None else [value]
        wrong = [each for each in values if str(getattr(each, "name", each)).lower() != maximizing]
        requirement = f"{maximizing}: the value of a job is its val/acc"
        check_argument(not wrong, f"hydra.sweeper.{key}", ", ".join(map(str, wrong)), requirement)


def _check_checkpoint_size(model: DigitClassifier, averages_weights: bool) -> None:
    """Refuse a network whose checkpoints would be larger than those that are loaded."""
    moments = 1 if model.hparams["optimizer"] == "sgd" else 2  # that the optimizer keeps for each weight
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    megabytes, limit = (1 + moments + averages_weights) * weights / 1e6, MAX_BYTES / 1e6
    if megabytes > limit:
        raise UsageError(
            f"model: its checkpoints would have about {megabytes:.0f} MB, more than the {limit:.0f} MB that can be "
            "loaded; choose a smaller network"
        )


def _check_trainer(trainer: L.Trainer, model: DigitClassifier, is_sweep: bool) -> None:
    """Refuse settings with which Lightning would train nothing or hang."""
    check_argument(trainer.max_epochs != 0, "trainer.max_epochs", 0, "at least 1")
    overfit_batches = trainer.overfit_batches  # type: ignore[attr-defined]
    # Lightning would turn off the shuffling of a DataLoader, but not that of another loader.
    check_argument(not overfit_batches, "trainer.overfit_batches", overfit_batches, "0; see debug=overfit")
    is_endless = trainer.max_epochs == -1 and trainer.max_steps == -1
    check_argument(
        not (is_endless and model.needs_end),
        "trainer.max_epochs",
        -1,
        "above 0, or trainer.max_steps must be: the schedule needs an end",
    )
    check_argument(trainer.limit_train_batches != 0, "trainer.limit_train_batches", 0, "above 0")
    one_process = trainer.world_size == 1
    require_matching_processes(trainer)
    check_argument(
        not is_sweep or one_process, "trainer.devices", trainer.world_size, "1: each run of -m has one process"
    )


def output_dir_key(config: DictConfig) -> str:
    """Return the key of the folder that Hydra fills: that of a run, or that of a whole sweep."""
    return "hydra.sweep.dir" if config.hydra.mode == RunMode.MULTIRUN else "hydra.run.dir"


def require_unused_run_dir(config: DictConfig) -> None:
    """Check that a run does not overwrite another one.

    Args:
        config: The composed config of `train`, with Hydra's own node.

    Raises:
        UsageError: If the run folder holds a run that this one does not continue.
    """
    run_dir = Path(config.run_dir)
    if config.resume or not (run_dir / "checkpoints").exists():
        return
    if config.hydra.mode != RunMode.MULTIRUN:
        raise UsageError(f"{run_dir} already holds a run; continue it with resume={run_dir}, or choose another folder")
    if sorted(config.hydra.overrides.task) != sorted(read_overrides(run_dir, "hydra.sweep.dir")):
        raise UsageError(
            f"{run_dir} holds a run of another sweep; repeat that sweep, or choose another hydra.sweep.dir"
        )


def _require_different_folders(configs: list[DictConfig]) -> None:
    """Refuse a sweep in which two jobs would use the same folder, and the second would find the result of the first."""
    folders = [str(config.run_dir) for config in configs]
    if repeated := [folder for folder in folders if folders.count(folder) > 1]:
        raise UsageError(
            f"hydra.sweep.subdir: {repeated.count(repeated[0])} jobs would use the folder {repeated[0]}; name every "
            "key that differs between the jobs in it, or leave it out"
        )


@contextmanager
def hold_run_dir(configs: list[DictConfig]) -> Iterator[None]:
    """Lock the folder of a run or of a sweep, and check it once more: another process may have used it meanwhile.

    Of the processes of a run, the first one takes the lock. The others have the same folder, and check it as well.

    Args:
        configs: The configs of the run, or of all jobs of the sweep.

    Yields:
        Nothing.

    Raises:
        UsageError: If another process holds the lock, or has used the folder.
        SystemExit: With status 0, if the run to resume is finished.
    """
    node = configs[0].hydra.sweep if configs[0].hydra.mode == RunMode.MULTIRUN else configs[0].hydra.run
    _require_different_folders(configs)
    with lock_run_dir(Path(node.dir)):
        for config in configs:
            require_unused_run_dir(config)
            if config.resume and load_finished_result(config):
                if is_main_process():
                    print(
                        f"{config.run_dir} is finished; resume={config.run_dir} with a larger trainer.max_epochs "
                        "extends it"
                    )
                raise SystemExit(0)
        yield
