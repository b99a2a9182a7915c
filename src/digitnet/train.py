"""Trains a digit classifier: `python -m digitnet.train model=cnn`, with any override of configs/train.yaml."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digitnet import commands
from digitnet.errors import UsageError, require

# The parts that need torch are imported where they are used: `--help` does not wait for them.


def main() -> None:
    commands.run("train", task, check, rewrite=with_recorded)


def task(config: DictConfig) -> float | None:
    """Returns what a sweep compares: the best validation accuracy, or None without validation."""
    from digitnet import experiment

    test = config.test if config.test is not None else HydraConfig.get().mode == RunMode.RUN
    figure: float | None = experiment.run(config, test).get("val/acc")
    return figure


def check(config: DictConfig) -> None:
    """Tries everything that a run needs and leaves no trace. Raises UsageError."""
    from digitnet import checkpoints, experiment

    sweep = config.hydra.mode == RunMode.MULTIRUN
    require(config.test in (None, True, False), "test", config.test, "true, false or null")
    require(not (sweep and config.resume), "resume", config.resume, "given to one run, not to a sweep")
    folder = Path(config.hydra.sweep.dir if sweep else config.folder)
    if not config.resume and any(folder.glob("*/checkpoints" if sweep else "checkpoints")):
        raise UsageError(f"{folder} already holds a run: go on with it by resume={folder}, or choose another folder")
    checkpoints.require_writable(folder, "hydra.sweep.dir" if sweep else "hydra.run.dir")
    if last := experiment.checkpoint_to_resume(config):
        checkpoints.load(last)
    data, _, trainer, _ = experiment.build(config)
    data.prepare_data()
    require(trainer.max_epochs != 0 and trainer.limit_train_batches != 0, "trainer.max_epochs", 0, "at least 1")
    require(not sweep or trainer.world_size == 1, "trainer.devices", trainer.world_size, "1: -m runs in one process")


def with_recorded(overrides: list[str]) -> list[str]:
    """`resume=DIR` stands for what the run in DIR was started with; what is given beside it now comes on top."""
    given = dict(override.partition("=")[::2] for override in overrides)
    if not given.get("resume"):
        return overrides
    folder = Path(given["resume"].strip("'\""))
    record = folder / ".hydra" / "overrides.yaml"
    if not record.is_file():
        raise UsageError(f"resume={folder}: no run there, {record} is missing")
    recorded = [str(line) for line in OmegaConf.load(record)]
    kept = [line for line in recorded if line.lstrip("+").partition("=")[0] not in (*given, "resume")]
    return [*kept, *overrides] + ([] if "hydra.run.dir" in given else [f"hydra.run.dir={folder}"])


if __name__ == "__main__":
    main()
