"""Scores trained models on the test images, outside a run."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from digitnet.checkpoints.atomic import atomic_write, check_writable
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.checkpoints.pretrained import load_ensemble, resolve_models
from digitnet.environment import environment_info
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitModule
from digitnet.models.dataset_record import describe_datamodule
from digitnet.training.build import build_data, build_trainer
from digitnet.training.datasets import collect_images, has_test_data, require_same_data
from digitnet.training.experiment import print_metrics, score_test_set
from digitnet.training.run_dir import to_json

_SAMPLES_PER_ROW = 8  # of samples.png


def validate_evaluation(config: DictConfig) -> None:
    """Check that the model, the data and the places to write to are there; create nothing.

    Args:
        config: The composed config of `evaluate`.

    Raises:
        UsageError: If anything is missing.
    """
    check_argument(config.model_ref is not None, "model", "null", "a run folder, a checkpoint, cnn or mlp")
    model, data = _load_model(config), build_data(config.data)
    data.prepare_data()
    require_same_data(model, data, config.allow_other_data, config.model_ref)
    if not has_test_data(data):
        raise UsageError(f"data: {type(data).__name__} has no test_dataloader, so there is nothing to score")
    build_trainer(config.trainer, [])
    if config.json_path not in (None, "-"):
        check_writable(Path(config.json_path).parent, "json_path")
    if config.plots_dir:
        check_writable(Path(config.plots_dir), "plots_dir")


def run_evaluation(config: DictConfig) -> None:
    """Score a model, print the metrics, and write the files that the config asks for.

    Args:
        config: The composed config of `evaluate`.

    Raises:
        UsageError: If there is no such model.
        RunError: If the loss is not finite, or a file cannot be written.
    """
    paths = resolve_models(config.model_ref)
    model, data = _load_model(config), build_data(config.data)
    trainer = build_trainer(config.trainer, [])
    metrics = score_test_set(trainer, model, data)
    if not trainer.is_global_zero:
        return
    record = describe_datamodule(data, model.num_classes)
    assert record is not None
    result = {"checkpoints": [str(path) for path in paths], "model": model.architecture, "data": record.name}
    result["tta"] = config.tta
    json_text = to_json(result | metrics | environment_info())
    if config.json_path == "-":
        print(json_text, end="")
    else:
        images = sum(map(len, model.epoch_metrics["test"].labels))
        source = "" if record.name == "mnist" else f" of {record.name}"
        print_metrics(f"{model.architecture}, {images:,} test images{source}", metrics)
    if config.json_path not in (None, "-"):
        atomic_write(Path(config.json_path), json_text.encode())
    if config.plots_dir:
        _save_samples_plot(Path(config.plots_dir), config.seed, model.cpu(), *collect_images(data, "test"))
        if len(paths) == 1 and paths[0].suffix != ".safetensors":  # the curves of a single run
            _save_curves_plot(Path(config.plots_dir), paths[0])


def _load_model(config: DictConfig) -> DigitModule:
    """Load the model or the ensemble to score."""
    check_argument(isinstance(config.tta, int) and 0 <= config.tta <= 4, "tta", config.tta, "from 0 to 4 pixels")
    return load_ensemble(config.model_ref, config.tta)


def _save_samples_plot(directory: Path, seed: int, model: DigitModule, images: Tensor, labels: Tensor) -> None:
    """Write samples.png: the first test images above random ones, with their predictions."""
    from digitnet.plots import plot_predictions  # imports matplotlib

    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([torch.arange(_SAMPLES_PER_ROW), random[:_SAMPLES_PER_ROW]])
    images, labels = images.cpu()[chosen], labels.cpu()[chosen]
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(dim=1)
    names = model.class_names
    directory.mkdir(parents=True, exist_ok=True)
    plot_predictions(images, labels, probabilities, _SAMPLES_PER_ROW, names).savefig(directory / "samples.png")
    print(f"plot: {directory / 'samples.png'}")


def _save_curves_plot(directory: Path, checkpoint: Path) -> None:
    """Write curves.png: loss and accuracy of each epoch up to the last one that was saved."""
    from digitnet.plots import plot_curves  # imports matplotlib

    last = checkpoint.with_name("last.ckpt")
    callbacks = load_checkpoint(last if last.is_file() else checkpoint).get("callbacks", {})
    if "EpochLog" not in callbacks:  # trained without digitnet's command
        return
    plot_curves(callbacks["EpochLog"]["history"]).savefig(directory / "curves.png")
    print(f"plot: {directory / 'curves.png'}")
