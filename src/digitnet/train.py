"""Trains a digit classifier: `python -m digitnet.train model=cnn`, with any override of configs/train.yaml."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digitnet import commands
from digitnet.errors import UsageError


def main() -> None:
    commands.run("train", task, check, rewrite=with_recorded)


def task(config: DictConfig) -> float | None:
    """Returns what a sweep compares: the best validation accuracy, or None without validation."""
    from digitnet import experiment  # imports torch, which --help need not wait for

    test = config.test if config.test is not None else HydraConfig.get().mode == RunMode.RUN
    figure: float | None = experiment.run(config, test).get("val/acc")
    return figure


def check(config: DictConfig) -> None:
    """Tries everything that a run needs and leaves no trace. Raises UsageError."""
    from digitnet import experiment

    check_folder(Path(config.folder), resuming=config.resume is not None)
    parts = experiment.build(config)
    parts.data.prepare_data()
    if config.hydra.mode == RunMode.MULTIRUN and parts.trainer.world_size > 1:
        raise UsageError("-m runs its jobs in one process: leave trainer.devices at 1, or start the runs one by one")


def check_folder(folder: Path, resuming: bool) -> None:
    if (folder / "checkpoints").exists() and not resuming:
        raise UsageError(f"{folder} already holds a run: go on with it by resume={folder}, or choose another folder")
    try:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with TemporaryDirectory(dir=existing, prefix=".digitnet-"):
            pass
    except OSError as error:
        raise UsageError(
            f"hydra.run.dir={folder}: cannot make it ({error}); choose a folder that can be written"
        ) from error


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
    return [*kept, *overrides, f"hydra.run.dir={folder}"]


if __name__ == "__main__":
    main()
