"""Score a trained model on the test images: `python -m digitnet.evaluate model=RUN_DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from digitnet.cli.hydra_app import run_hydra_app
from digitnet.errors import check_argument

# Modules that import torch are imported where they are used, so that `--help` does not wait for it.
if TYPE_CHECKING:
    from torch import Tensor

    from digitnet.models import DigitModule

SAMPLES_PER_ROW = 8  # of samples.png


def main() -> None:
    """Run the command."""
    run_hydra_app("evaluate", run_job, validate)


def validate(config: DictConfig) -> None:
    """Check that everything is there; create nothing.

    Args:
        config: The composed config.

    Raises:
        UsageError: If the model, the data or a place to write to is missing.
    """
    from digitnet.checkpoints.atomic import check_writable
    from digitnet.training.build import build_trainer, instantiate

    check_argument(config.model is not None, "model", "null", "a run folder, a checkpoint, cnn or mlp")
    load_model(config)
    instantiate(config.data, "data").prepare_data()
    build_trainer(config.trainer, [])
    if config.json_path not in (None, "-"):
        check_writable(Path(config.json_path).parent, "json_path")
    if config.plots_dir:
        check_writable(Path(config.plots_dir), "plots_dir")


def run_job(config: DictConfig) -> None:
    """Score the model, print the metrics, and write what was asked for.

    Args:
        config: The composed config.
    """
    from digitnet.checkpoints.atomic import atomic_write
    from digitnet.checkpoints.pretrained import resolve_models
    from digitnet.environment import environment_info
    from digitnet.training.build import build_trainer, instantiate
    from digitnet.training.experiment import print_metrics, score_test_set
    from digitnet.training.run_dir import to_json

    paths = resolve_models(config.model)
    model, data = load_model(config), instantiate(config.data, "data")
    trainer = build_trainer(config.trainer, [])
    metrics = score_test_set(trainer, model, data)
    if not trainer.is_global_zero:
        return
    result = {"checkpoints": [str(path) for path in paths], "model": model.name, "tta": config.tta}
    result |= metrics | environment_info()
    if config.json_path == "-":
        print(to_json(result), end="")
    else:
        print_metrics(f"{result['model']}, 10,000 test images", metrics)
    if config.json_path not in (None, "-"):
        atomic_write(Path(config.json_path), to_json(result).encode())
    if config.plots_dir:
        save_samples_plot(Path(config.plots_dir), config.seed, model.cpu(), *data.split("test"))
        if len(paths) == 1 and paths[0].suffix != ".safetensors":  # the curves of a single run
            save_curves_plot(Path(config.plots_dir), paths[0])


def load_model(config: DictConfig) -> "DigitModule":
    """Load the model or ensemble to score.

    Args:
        config: The composed config.

    Returns:
        The model.

    Raises:
        UsageError: If there is no such model, or `tta` is out of range.
    """
    from digitnet.checkpoints.pretrained import load_ensemble

    check_argument(isinstance(config.tta, int) and 0 <= config.tta <= 4, "tta", config.tta, "from 0 to 4 pixels")
    return load_ensemble(config.model, config.tta)


def save_samples_plot(directory: Path, seed: int, model: "DigitModule", images: "Tensor", labels: "Tensor") -> None:
    """Write samples.png: the first test images above random ones, with their predictions.

    Args:
        directory: Where to write.
        seed: Seed of the random choice.
        model: The model, on the CPU.
        images: All test images, `[N, 28, 28]`.
        labels: Their labels, `[N]`.
    """
    import torch

    from digitnet.plots import plot_predictions

    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([torch.arange(SAMPLES_PER_ROW), random[:SAMPLES_PER_ROW]])
    images, labels = images.cpu()[chosen], labels.cpu()[chosen]
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(dim=1)
    directory.mkdir(parents=True, exist_ok=True)
    plot_predictions(images, labels, probabilities, SAMPLES_PER_ROW).savefig(directory / "samples.png")
    print(f"plot: {directory / 'samples.png'}")


def save_curves_plot(directory: Path, checkpoint: Path) -> None:
    """Write curves.png: loss and accuracy of each epoch up to the last one that was saved.

    Args:
        directory: Where to write.
        checkpoint: A checkpoint of the run.
    """
    from digitnet.checkpoints.checkpoint_format import load_checkpoint
    from digitnet.plots import plot_curves

    last = checkpoint.with_name("last.ckpt")
    callbacks = load_checkpoint(last if last.is_file() else checkpoint).get("callbacks", {})
    if "EpochLog" not in callbacks:  # trained without digitnet's command
        return
    plot_curves(callbacks["EpochLog"]["history"]).savefig(directory / "curves.png")
    print(f"plot: {directory / 'curves.png'}")


if __name__ == "__main__":
    main()
