"""Scores a trained model on the test images again: `python -m digitnet.evaluate run=DIR_OR_CKPT`."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from digitnet import commands

# The parts that need torch are imported where they are used: `--help` does not wait for them.

SAMPLES = 8  # digits a row in samples.png


def main() -> None:
    commands.run("evaluate", task, check)


def check(config: DictConfig) -> None:
    """Raises UsageError if anything is missing; makes nothing."""
    from digitnet import checkpoints, experiment

    checkpoints.restore(checkpoints.find(Path(config.run)))
    experiment.make(config.data, "data").prepare_data()
    experiment.make_trainer(config.trainer, [])
    if config.json not in (None, "-"):
        checkpoints.require_writable(Path(config.json).parent, "json")
    if config.plots:
        checkpoints.require_writable(Path(config.plots), "plots")


def task(config: DictConfig) -> None:
    """Prints the table, and writes what was asked for."""
    from digitnet import checkpoints, experiment, recording

    path = checkpoints.find(Path(config.run))
    model, data = checkpoints.restore(path), experiment.make(config.data, "data")
    trainer = experiment.make_trainer(config.trainer, [])
    figures = experiment.test_figures(trainer, model, data)
    if not trainer.is_global_zero:
        return
    outcome = {"checkpoint": str(path), "model": type(model).__name__} | figures | recording.surroundings()
    if config.json == "-":
        print(recording.to_json(outcome), end="")
    else:
        experiment.show(f"{outcome['model']}, 10,000 test images", figures)
    if config.json not in (None, "-"):
        checkpoints.write(Path(config.json), recording.to_json(outcome).encode())
    if config.plots:
        draw(Path(config.plots), config.seed, path, model.cpu(), data.part("test"))


def draw(folder: Path, seed: int, checkpoint: Path, model: Any, test: Any) -> None:
    """curves.png, up to the last epoch on file, and samples.png: the first digits of the test set above random ones."""
    import torch

    from digitnet import checkpoints, figures

    images, labels = (tensor.cpu() for tensor in test)
    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([torch.arange(SAMPLES), random[:SAMPLES]])
    with torch.inference_mode():
        probabilities = model.eval()(images[chosen]).softmax(dim=1)
    last = checkpoint.with_name("last.ckpt")
    rows = checkpoints.load(last if last.is_file() else checkpoint)["callbacks"]["Recorder"]["rows"]
    folder.mkdir(parents=True, exist_ok=True)
    figures.draw_predictions(images[chosen], labels[chosen], probabilities, SAMPLES).savefig(folder / "samples.png")
    figures.draw_curves(rows).savefig(folder / "curves.png")
    print(f"drawn: {folder / 'curves.png'}, {folder / 'samples.png'}")


if __name__ == "__main__":
    main()
