"""Scores trained models on the test images, outside a run."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from digitnet.analysis.corruptions import CORRUPTIONS
from digitnet.checkpoints.atomic import atomic_write, check_writable
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.checkpoints.pretrained import PRETRAINED_DIR, load_ensemble, resolve_models
from digitnet.data import MNISTDataModule
from digitnet.data.datamodule import EVAL_BATCH_SIZE
from digitnet.data.mnist import disputed_test_labels
from digitnet.data.mnist_c import check_mnist_c
from digitnet.environment import environment_info
from digitnet.errors import UsageError, check_argument
from digitnet.models import DigitModule
from digitnet.models.dataset_record import describe_datamodule
from digitnet.training.assessment import Assessment, HeldOut, assess, worst_mistakes
from digitnet.training.build import build_data, build_trainer
from digitnet.training.datasets import collect_images, has_test_data, require_same_data, unseen_validation
from digitnet.training.evaluation_table import print_assessment, print_robustness
from digitnet.training.experiment import print_metrics, score_test_set
from digitnet.training.finished_runs import describe_mixture
from digitnet.training.processes import require_matching_processes, run_together
from digitnet.training.robustness import Robustness, score_robustness
from digitnet.training.run_dir import EpochRecord, to_json

_SAMPLES_PER_ROW = 8  # of samples.png
_MISTAKES_DRAWN = 12


def validate_evaluation(config: DictConfig) -> None:
    """Check that the model, the data and the places to write to are there; create nothing.

    Args:
        config: The composed config of `evaluate`.

    Raises:
        UsageError: If anything is missing.
    """
    check_argument(config.model_ref is not None, "model", "null", "a run folder, a checkpoint, cnn or mlp")
    is_switch = isinstance(config.allow_other_data, bool)
    check_argument(is_switch, "allow_other_data", config.allow_other_data, "true or false")
    _describe_mixture(resolve_models(config.model_ref))
    model, data = _load_model(config), build_data(config.data)
    data.prepare_data()
    require_same_data(model, data, config.allow_other_data, config.model_ref)
    if not has_test_data(data):
        raise UsageError(f"data: {type(data).__name__} has no test_dataloader, so there is nothing to score")
    trainer = build_trainer(config.trainer, [], config.peer_timeout)
    check_argument(trainer.limit_test_batches != 0, "trainer.limit_test_batches", 0, "above 0")
    require_matching_processes(trainer)
    _validate_robustness(config, data, trainer.world_size)
    if config.json_path not in (None, "-"):
        is_folder = Path(config.json_path).is_dir()  # an empty name is the current folder
        requirement = "the name of a file, not of a folder; - prints the figures"
        check_argument(not is_folder, "json_path", config.json_path, requirement)
        check_writable(Path(config.json_path).parent, "json_path")
    if config.plots_dir:
        check_writable(Path(config.plots_dir), "plots_dir")


def _validate_robustness(config: DictConfig, data: L.LightningDataModule, processes: int) -> None:
    """Check that the corrupted images can be made, or are there."""
    wanted = config.robustness
    is_switch = wanted is None or isinstance(wanted, bool)
    check_argument(is_switch or isinstance(wanted, str), "robustness", wanted, "true, false or a folder with MNIST-C")
    if not wanted:
        return
    if processes > 1:
        raise UsageError(f"robustness={wanted}: is scored in one process only; add trainer.devices=1")
    if not is_switch:
        if not isinstance(data, MNISTDataModule):
            raise UsageError(
                f"robustness={wanted}: MNIST-C has the test images of MNIST only; robustness=true corrupts those of "
                "other data"
            )
        check_mnist_c(Path(wanted), list(CORRUPTIONS))


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
    trainer = build_trainer(config.trainer, [], config.peer_timeout)
    with run_together(trainer, config.peer_timeout):
        metrics = score_test_set(trainer, model, data)
    if not trainer.is_global_zero:
        return
    if mixture := _describe_mixture(paths):
        sys.stderr.write(f"digitnet: {config.model_ref}: {mixture}; what is scored is the ensemble of all\n")
    record = describe_datamodule(data, model.num_classes)
    assert record is not None
    # Each of several processes has the predictions for a part of the images.
    assessment = _assess(trainer, model, data) if trainer.world_size == 1 else None
    robustness = _score_robustness(config, trainer, model, data)
    result: dict[str, Any] = {"checkpoints": [_short_name(path) for path in paths], "model": model.architecture}
    result |= {"data": record.name, "tta": config.tta} | metrics
    result |= assessment.to_json() if assessment else {}
    result |= {"robustness": robustness.to_json()} if robustness else {}
    json_text = to_json(result | environment_info())
    if config.json_path == "-":
        print(json_text, end="")
    else:
        source = "" if record.name == "mnist" else f" of {record.name}"
        images = sum(map(len, model.epoch_metrics["test"].labels))
        if assessment:
            print_assessment(f"{model.architecture}, {images:,} test images{source}", assessment)
        else:
            print_metrics(f"{model.architecture}, {trainer.world_size} processes{source}", metrics)
            print("calibration, mistakes and scores by class are computed in one process only: trainer.devices=1")
        if robustness:
            print_robustness(robustness)
    if config.json_path not in (None, "-"):
        atomic_write(Path(config.json_path), json_text.encode())
    if config.plots_dir:
        _save_plots(config, paths, model.cpu(), data, robustness)


def _assess(trainer: L.Trainer, model: DigitModule, data: L.LightningDataModule) -> Assessment:
    """Tell what the accuracy is worth, from the logits of the test and those of the validation images."""
    outputs = model.epoch_metrics["test"]
    logits, labels = torch.cat(outputs.logits).cpu(), torch.cat(outputs.labels).cpu()
    held_out: HeldOut | str = unseen_validation(model, data) or ""
    if not held_out:
        images, classes = collect_images(data, "val")
        held_out = HeldOut(_predict(trainer, model, images), classes.cpu())
    temperature = model.calibration.temperature if model.calibration else None
    is_mnist = isinstance(data, MNISTDataModule) and len(labels) == 10_000
    disputed = disputed_test_labels() if is_mnist else {}
    return assess(logits, labels, model.class_names, held_out, temperature, disputed)


@torch.inference_mode()
def _predict(trainer: L.Trainer, model: DigitModule, images: Tensor) -> Tensor:
    """Return the logits `[N, C]` of images, computed on the device of a Trainer, on the CPU."""
    device = trainer.strategy.root_device
    model.eval().to(device)
    with trainer.precision_plugin.val_step_context():
        return torch.cat([model(batch.to(device)).cpu() for batch in torch.split(images, EVAL_BATCH_SIZE)])


def _score_robustness(
    config: DictConfig, trainer: L.Trainer, model: DigitModule, data: L.LightningDataModule
) -> Robustness | None:
    """Score the model on corrupted test images, if the config asks for it."""
    if not config.robustness:
        return None
    images, labels = (tensor.cpu() for tensor in collect_images(data, "test"))
    if images.is_floating_point():
        images = (255 * images).round().to(torch.uint8)
    archive = None if config.robustness is True else Path(config.robustness)
    return score_robustness(lambda batch: _predict(trainer, model, batch), images, labels, archive, config.seed)


def _describe_mixture(paths: list[Path]) -> str | None:
    """Return a sentence about the runs of an ensemble if their settings differ."""
    return describe_mixture([path.parents[1] for path in paths]) if len(paths) > 1 else None


def _short_name(path: Path) -> str:
    """Return the path of a model as it is typed: a bundled one has a name, wherever the package is installed."""
    if path.is_relative_to(PRETRAINED_DIR):
        return f"bundled:{path.relative_to(PRETRAINED_DIR).with_suffix('').as_posix()}"
    return str(path)


def _load_model(config: DictConfig) -> DigitModule:
    """Load the model or the ensemble to score."""
    check_argument(isinstance(config.tta, int) and 0 <= config.tta <= 4, "tta", config.tta, "from 0 to 4 pixels")
    return load_ensemble(config.model_ref, config.tta)


def _save_plots(
    config: DictConfig,
    paths: list[Path],
    model: DigitModule,
    data: L.LightningDataModule,
    robustness: Robustness | None,
) -> None:
    """Write the plots, and print their paths."""
    from digitnet import plots  # imports matplotlib

    images, labels = (tensor.cpu() for tensor in collect_images(data, "test"))
    outputs, names = model.epoch_metrics["test"], model.class_names
    logits = torch.cat(outputs.logits).cpu()
    figures = {"samples": _plot_samples(config.seed, model, images, labels)}
    if len(logits) == len(labels):  # not in one of several processes, nor with trainer.limit_test_batches
        confusion = multiclass_confusion_matrix(logits.argmax(dim=1), labels, len(names), validate_args=False)
        worst = worst_mistakes(logits, labels)[:_MISTAKES_DRAWN]
        figures["confusion"] = plots.plot_confusion(confusion, names)
        figures["mistakes"] = plots.plot_predictions(
            images[worst], labels[worst], logits[worst].softmax(dim=1), class_names=names
        )
    if robustness:
        accuracies = {name: each.accuracy for name, each in robustness.scores.items()}
        figures["corruptions"] = plots.plot_corruptions(robustness.examples, accuracies, robustness.kind)
    if len(paths) == 1 and paths[0].suffix != ".safetensors" and (history := _read_history(paths[0])):
        figures["curves"] = plots.plot_curves(history)
    for name, figure in figures.items():
        path = Path(config.plots_dir) / f"{name}.png"
        atomic_write(path, plots.to_png(plots.render(figure)))
        print(f"plot: {path}")


def _plot_samples(seed: int, model: DigitModule, images: Tensor, labels: Tensor) -> Any:
    """Plot the first test images above random ones, with their predictions."""
    from digitnet.plots import plot_predictions  # imports matplotlib

    random = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    first = torch.arange(min(_SAMPLES_PER_ROW, len(images)))
    chosen = torch.cat([first, random[:_SAMPLES_PER_ROW]])
    images, labels = images[chosen], labels[chosen]
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(dim=1)
    return plot_predictions(images, labels, probabilities, _SAMPLES_PER_ROW, model.class_names)


def _read_history(checkpoint: Path) -> list[EpochRecord] | None:
    """Return the records of the epochs up to the last one that was saved; None if digitnet's command did not train."""
    last = checkpoint.with_name("last.ckpt")
    callbacks = load_checkpoint(last if last.is_file() else checkpoint).get("callbacks", {})
    history: list[EpochRecord] | None = callbacks.get("EpochLog", {}).get("history")
    return history
