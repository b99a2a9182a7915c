"""Train a digit classifier: `python -m digitnet.train model=cnn`, with any override of configs/train.yaml."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from digitnet.cli.hydra_app import run_hydra_app

# Modules that import torch are imported where they are used, so that `--help` does not wait for it.


def main() -> None:
    """Run the command."""
    run_hydra_app("train", run_job, validate, expand_overrides=expand_overrides, lock=lock)


def run_job(config: DictConfig) -> float | None:
    """Train one run.

    Args:
        config: The composed config.

    Returns:
        The validation accuracy of the best epoch, which a sweeper has to maximize; None without validation.
    """
    from digitnet.training.experiment import run_experiment

    test = config.test if config.test is not None else HydraConfig.get().mode == RunMode.RUN
    accuracy: float | None = run_experiment(config, test).get("val/acc")
    return accuracy


def validate(config: DictConfig) -> None:
    """Check everything that the run needs; see `digitnet.training.preflight.validate_run`."""
    from digitnet.training.preflight import validate_run

    validate_run(config)


def expand_overrides(overrides: list[str], config_dir: str | None) -> list[str]:
    """Expand `resume=RUN_DIR`; see `digitnet.training.resume_overrides.expand_resume`."""
    if not any(override.lstrip("+").startswith("resume=") for override in overrides):
        return overrides
    from digitnet.training.resume_overrides import expand_resume

    return expand_resume(overrides, config_dir)


@contextmanager
def lock(configs: list[DictConfig]) -> Iterator[None]:
    """Lock the output folder while the jobs run; at the end of a sweep, print the table of its runs."""
    from digitnet.training.multirun_summary import print_multirun_summary
    from digitnet.training.preflight import hold_run_dir

    with hold_run_dir(configs):
        try:
            yield
        finally:  # also if a job has failed, or a signal has ended the sweep
            if configs[0].hydra.mode == RunMode.MULTIRUN:
                print_multirun_summary(Path(configs[0].hydra.sweep.dir))


if __name__ == "__main__":
    main()
