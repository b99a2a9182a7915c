"""Scores a trained model on the test images again: `python -m digitnet.evaluate run=DIR_OR_CKPT`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from digitnet import commands
from digitnet.errors import UsageError

if TYPE_CHECKING:
    from digitnet.data import MNISTDataModule
    from digitnet.models import DigitClassifier

SAMPLES = 8  # digits a row in samples.png


def main() -> None:
    commands.run("evaluate", task, check)


def check(config: DictConfig) -> None:
    """Raises UsageError if anything is missing; makes nothing."""
    from digitnet import checkpoints, experiment

    checkpoints.restore(checkpoints.find(Path(config.run)))
    experiment.make(config.data, "data").prepare_data()
    experiment.make_trainer(config.trainer, [])
    if config.plots and not curves_of(config).is_file():
        raise UsageError(f"plots={config.plots}: {curves_of(config)} is missing; give the folder of a run")


def task(config: DictConfig) -> None:
    """Prints the table, or writes what was asked for."""
    from digitnet import checkpoints, experiment, recording

    path = checkpoints.find(Path(config.run))
    model, data = checkpoints.restore(path), experiment.make(config.data, "data")
    trainer = experiment.make_trainer(config.trainer, [])
    figures = experiment.score(trainer, model, data)
    if not trainer.is_global_zero:
        return
    outcome = {"checkpoint": str(path), "model": type(model).__name__} | figures | recording.surroundings()
    if config.json == "-":
        print(recording.to_json(outcome), end="")
    else:
        show(outcome)
    if config.json not in (None, "-"):
        checkpoints.write(Path(config.json), recording.to_json(outcome).encode())
    if config.plots:
        draw(config, model.cpu(), data)


def curves_of(config: DictConfig) -> Path:
    run = Path(config.run)
    return (run if run.is_dir() else run.parent.parent) / "metrics.csv"


def show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("10,000 test images", figures["model"])
    table.add_row("accuracy", f"{figures['test/acc']:.2%}")
    table.add_row("loss", f"{figures['test/loss']:.4f}")
    for digit in range(10):
        table.add_row(f"accuracy on {digit}", f"{figures[f'test/acc/{digit}']:.2%}")
    Console().print(table)


def draw(config: DictConfig, model: "DigitClassifier", data: "MNISTDataModule") -> None:
    """curves.png and samples.png: above the first digits of the test set, below random ones, each with its chances."""
    import torch

    from digitnet import figures, recording

    images, labels = (tensor.cpu() for tensor in data.part("test"))
    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed))
    chosen = torch.cat([torch.arange(SAMPLES), random[:SAMPLES]])
    with torch.inference_mode():
        probabilities = model.eval()(images[chosen]).softmax(dim=1)
    folder = Path(config.plots)
    folder.mkdir(parents=True, exist_ok=True)
    figures.draw_predictions(images[chosen], labels[chosen], probabilities, SAMPLES).savefig(folder / "samples.png")
    figures.draw_curves(recording.read_csv(curves_of(config))).savefig(folder / "curves.png")
    print(f"drawn: {folder / 'curves.png'}, {folder / 'samples.png'}")


if __name__ == "__main__":
    main()
