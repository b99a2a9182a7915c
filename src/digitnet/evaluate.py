"""Scores a trained model on the test images again: `python -m digitnet.evaluate model=REF`."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from digitnet.cli import hydra_app
from digitnet.errors import check_argument

# The parts that need torch are imported where they are used: `--help` does not wait for them.
if TYPE_CHECKING:
    from torch import Tensor

    from digitnet.models import DigitModule

SAMPLES = 8  # digits a row in samples.png


def main() -> None:
    hydra_app.run("evaluate", task, check, name_model_reference)


def name_model_reference(overrides: list[str]) -> list[str]:
    """Rename the key `model`, which Hydra would take for the config group of the same name that training has."""
    return [f"model_ref={override[6:]}" if override.startswith("model=") else override for override in overrides]


def check(config: DictConfig) -> None:
    """Raises UsageError if anything is missing; makes nothing."""
    from digitnet.checkpoints import checkpoint_format
    from digitnet.training import experiment

    check_argument(config.model_ref is not None, "model", "null", "a run folder, a checkpoint, cnn or mlp")
    assemble(config)
    experiment.make(config.data, "data").prepare_data()
    experiment.make_trainer(config.trainer, [])
    if config.json_path not in (None, "-"):
        checkpoint_format.require_writable(Path(config.json_path).parent, "json_path")
    if config.plots_dir:
        checkpoint_format.require_writable(Path(config.plots_dir), "plots_dir")


def task(config: DictConfig) -> None:
    """Prints the table, and writes what was asked for."""
    from digitnet.checkpoints import checkpoint_format, pretrained
    from digitnet.training import experiment, recording

    paths = pretrained.resolve_models(config.model_ref)
    model, data = assemble(config), experiment.make(config.data, "data")
    trainer = experiment.make_trainer(config.trainer, [])
    figures = experiment.test_figures(trainer, model, data)
    if not trainer.is_global_zero:
        return
    outcome = {"checkpoints": [str(path) for path in paths], "model": model.architecture, "tta": config.tta}
    outcome |= figures | recording.surroundings()
    if config.json_path == "-":
        print(recording.to_json(outcome), end="")
    else:
        experiment.show(f"{outcome['model']}, 10,000 test images", figures)
    if config.json_path not in (None, "-"):
        checkpoint_format.write(Path(config.json_path), recording.to_json(outcome).encode())
    if config.plots_dir:
        draw_samples(Path(config.plots_dir), config.seed, model.cpu(), *data.split("test"))
        if len(paths) == 1 and paths[0].suffix != ".safetensors":  # one run, one curve
            draw_curves(Path(config.plots_dir), paths[0])


def assemble(config: DictConfig) -> "DigitModule":
    """The model to score. Raises UsageError if there is none."""
    from digitnet.checkpoints import pretrained

    check_argument(isinstance(config.tta, int) and 0 <= config.tta <= 4, "tta", config.tta, "from 0 to 4 pixels")
    return pretrained.load_ensemble(config.model_ref, config.tta)


def draw_samples(folder: Path, seed: int, model: "DigitModule", images: "Tensor", labels: "Tensor") -> None:
    """samples.png: the first digits of the test set above random ones."""
    import torch

    from digitnet import plots

    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([torch.arange(SAMPLES), random[:SAMPLES]])
    images, labels = images.cpu()[chosen], labels.cpu()[chosen]
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(dim=1)
    folder.mkdir(parents=True, exist_ok=True)
    plots.plot_predictions(images, labels, probabilities, SAMPLES).savefig(folder / "samples.png")
    print(f"drawn: {folder / 'samples.png'}")


def draw_curves(folder: Path, checkpoint: Path) -> None:
    """curves.png, up to the last epoch on file."""
    from digitnet import plots
    from digitnet.checkpoints import checkpoint_format

    last = checkpoint.with_name("last.ckpt")
    callbacks = checkpoint_format.load(last if last.is_file() else checkpoint).get("callbacks", {})
    if "Recorder" not in callbacks:  # trained without digitnet's command
        return
    rows = callbacks["Recorder"]["rows"]
    plots.plot_curves(rows).savefig(folder / "curves.png")
    print(f"drawn: {folder / 'curves.png'}")


if __name__ == "__main__":
    main()
