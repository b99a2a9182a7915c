"""Trains a digit classifier: `python -m digitnet.train model=cnn`, with any override of configs/train.yaml."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digitnet.cli import hydra_app
from digitnet.errors import UsageError, check_argument

# The parts that need torch are imported where they are used: `--help` does not wait for them.
if TYPE_CHECKING:
    from digitnet.models import DigitClassifier

CHANGEABLE = r"\+*(resume|test|compile|trainer|hydra)\b"
FOREIGN = r"^~?hydra|_target_\W++(?!digitnet\.|lightning\.)"


def main() -> None:
    hydra_app.run("train", task, check, rewrite=with_recorded, hold=alone)


def task(config: DictConfig) -> float | None:
    """Returns what a sweep compares: the best validation accuracy, or None without validation."""
    from digitnet.training import experiment

    test = config.test if config.test is not None else HydraConfig.get().mode == RunMode.RUN
    figure: float | None = experiment.run(config, test).get("val/acc")
    return figure


def check(config: DictConfig) -> None:
    """Tries everything that a run needs and leaves no trace. Raises UsageError."""
    from digitnet.checkpoints import checkpoint_format
    from digitnet.training import experiment

    sweep, folder = config.hydra.mode == RunMode.MULTIRUN, Path(config.run_dir)
    check_argument(config.test in (None, True, False), "test", config.test, "true, false or null")
    check_argument(config.compile in (True, False), "compile", config.compile, "true or false")
    check_argument(not (sweep and config.resume), "resume", config.resume, "given to one run, not to a sweep")
    checkpoint_format.require_writable(folder, hydra_app.place(config))
    require_free(config)
    data, model, trainer, _ = experiment.build(config)
    data.prepare_data()
    if last := experiment.checkpoint_to_resume(config):
        checkpoint = checkpoint_format.load(last)
        if not {"loops", "callbacks", "optimizer_states"} <= set(checkpoint):
            raise UsageError(f"{last}: holds a network and no run to go on with")
        require_as_it_began(config, folder)
        require_same(model, checkpoint, bool(config.get("weight_averaging")), folder)
        done, limit = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"], trainer.max_epochs
        check_argument(
            limit in (None, -1) or limit >= done, "trainer.max_epochs", limit, f"at least {done}, the epochs behind"
        )
    check_argument(trainer.max_epochs != 0, "trainer.max_epochs", 0, "at least 1")
    check_argument(trainer.limit_train_batches != 0, "trainer.limit_train_batches", 0, "above 0")
    check_argument(
        not sweep or trainer.world_size == 1, "trainer.devices", trainer.world_size, "1: -m runs in one process"
    )


@contextmanager
def alone(configs: list[DictConfig]) -> Iterator[None]:
    """Keeps others out of the folder of the run or sweep, and looks again: since the check it was anybody's."""
    from digitnet.training import experiment

    with experiment.only_one(Path(OmegaConf.select(configs[0], hydra_app.place(configs[0])))):
        for config in configs:
            require_free(config)
            if config.resume and experiment.found(config):
                print(f"{config.run_dir} is finished; trainer.max_epochs=N beside resume={config.run_dir} extends it")
                raise SystemExit(0)
        yield


def require_free(config: DictConfig) -> None:
    """Raises UsageError if the folder holds what the run would write over."""
    folder = Path(config.run_dir)
    if config.resume or not (folder / "checkpoints").exists():
        return
    if config.hydra.mode != RunMode.MULTIRUN:
        raise UsageError(f"{folder} already holds a run: go on with it by resume={folder}, or take another folder")
    if sorted(config.hydra.overrides.task) != sorted(recorded_overrides(folder, "hydra.sweep.dir")):
        raise UsageError(f"{folder} holds a run of another sweep; repeat that, or take another hydra.sweep.dir")


def with_recorded(overrides: list[str]) -> list[str]:
    """`resume=DIR` stands for what the run in DIR was started with; beside it, how long and on what it runs may change.

    Who hands a run on must not be able to make it run code: what it builds has to come from digitnet or Lightning.
    """
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    if given.get("resume") in (None, "", "null"):
        return overrides
    folder = Path(given["resume"].strip("'\""))
    elsewhere = given.get("hydra.run.dir", str(folder)).strip("'\"")
    check_argument(
        Path(elsewhere) == folder, "hydra.run.dir", elsewhere, f"left out: resume={folder} goes on in that folder"
    )
    before = [line.lstrip("+") for line in recorded_overrides(folder, "resume")]
    for line in overrides:
        if line.lstrip("+") not in before and not re.match(CHANGEABLE, line):
            raise UsageError(f"resume={folder} goes on as it began: {line} cannot change; trainer.…, test, compile may")
    kept = [line for line in before if line.partition("=")[0] not in (*given, "resume")]
    for line in kept:
        if re.search(FOREIGN, line):
            raise UsageError(f"resume={folder}: was started with {line}; say that again beside it if you trust it")
    return [*kept, *overrides] + ([] if "hydra.run.dir" in given else [f"hydra.run.dir={folder}"])


def recorded_overrides(folder: Path, name: str) -> list[str]:
    return [str(line) for line in recorded(folder, "overrides.yaml", list, name)]


def recorded(folder: Path, file: str, kind: type, name: str) -> Any:
    """What Hydra wrote down of a run, interpolations as they were typed."""
    record = folder / ".hydra" / file
    try:
        content = OmegaConf.to_container(OmegaConf.load(record), resolve=False)
    except Exception as error:  # whatever a YAML parser has against the bytes
        raise UsageError(f"{name}={folder}: no run there, {record} is missing or damaged") from error
    if not isinstance(content, kind):
        raise UsageError(f"{name}={folder}: {record} is damaged")
    return content


def require_as_it_began(config: DictConfig, folder: Path) -> None:
    """Raises UsageError if the configs that the recorded overrides choose from have changed since."""
    then, now = recorded(folder, "config.yaml", dict, "resume"), OmegaConf.to_container(config, resolve=False)
    assert isinstance(now, dict)
    free = ("trainer", "test", "compile", "resume", "run_dir", "hydra")
    changed = [str(key) for key in then.keys() | now.keys() if key not in free and then.get(key) != now.get(key)]
    if changed:
        raise UsageError(f"resume={folder}: the configs say something else of {sorted(changed)[0]} than when it began")


def require_same(model: "DigitClassifier", checkpoint: dict[str, Any], averaging: bool, folder: Path) -> None:
    """Raises UsageError if last.ckpt is not of the network that the run's config makes."""
    then = checkpoint["digitnet_model"], checkpoint["hyper_parameters"], "current_model_state" in checkpoint
    now = type(model).__name__, dict(model.hparams), averaging
    check_argument(then == now, "resume", folder, f"a run of {now}, as its config says; its checkpoint is of {then}")


if __name__ == "__main__":
    main()
