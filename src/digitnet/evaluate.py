"""Score a trained model on the test images: `python -m digitnet.evaluate model=RUN_DIR`."""

import re

from omegaconf import DictConfig

from digitnet.checkpoints.latest import expand_latest
from digitnet.cli.hydra_app import run_hydra_app

# Modules that import torch are imported where they are used, so that `--help` does not wait for it.


def main() -> None:
    """Run the command."""
    run_hydra_app("evaluate", run_job, validate, expand_overrides=expand_overrides)


def expand_overrides(overrides: list[str], config_dir: str | None) -> list[str]:
    """Rename the key `model` to `model_ref`, and add the data set that the model was trained on.

    Hydra would take `model=cnn` for a choice of the group `model`. The value "latest" is replaced by the folder of the
    run.
    """
    renamed = [re.sub(r"^\+*model=", "model_ref=", override) for override in overrides]
    references = [override for override in renamed if override.startswith("model_ref=")]
    if not references:
        return renamed
    latest = [each for each in references if each in ("model_ref=latest", "model_ref='latest'")]
    renamed = [f"model_ref={expand_latest('latest', 'model')}" if each in latest else each for each in renamed]
    from digitnet.training.datasets import add_recorded_data

    return add_recorded_data(renamed)


def validate(config: DictConfig) -> None:
    """Check everything that the evaluation needs; see `digitnet.training.evaluation.validate_evaluation`."""
    from digitnet.training.evaluation import validate_evaluation

    validate_evaluation(config)


def run_job(config: DictConfig) -> None:
    """Score the model; see `digitnet.training.evaluation.run_evaluation`."""
    from digitnet.training.evaluation import run_evaluation

    run_evaluation(config)


if __name__ == "__main__":
    main()
