"""The data of a run: built from the config, checked against the model, and found again for a trained model."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from hydra.utils import get_object
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from digitnet.checkpoints import pretrained
from digitnet.checkpoints.recorded_data import DATA_CHOICES, recorded_arguments
from digitnet.data import ImageDataModule
from digitnet.data.datamodule import RECIPE_DATA_KEYS
from digitnet.errors import UsageError, check_argument
from digitnet.models import DatasetRecord, DigitModule, Ensemble
from digitnet.models.dataset_record import describe_datamodule

_VALIDATION_ARGUMENTS = ("val_size", "test_size", "split_seed")  # they determine which images validate
_MAX_IMAGES = 10_000  # of an own data module, collected for plots


def accepted_data_config(config: DictConfig) -> dict[str, Any]:
    """Return the config of a data module without the keys of the recipes that its class does not accept.

    Keys that were typed are checked before.

    Args:
        config: The `data` node of a config.

    Returns:
        The accepted keys and their values, as plain containers.
    """
    accepted, takes_any = set[str](), True
    for parent in get_object(config._target_).__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        accepted |= {parameter.name for parameter in parameters}
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not takes_any:
            break
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    unused = set() if takes_any else set(RECIPE_DATA_KEYS) - accepted
    return {str(name): value for name, value in content.items() if name not in unused}


def num_classes(data: L.LightningDataModule) -> int | None:
    """Return the number of classes of a data module, from its `classes` or its `num_classes`; None if it has neither.

    Args:
        data: The data module.

    Raises:
        UsageError: If the classes of a data set of digitnet cannot be read.
    """
    classes = getattr(data, "classes", None)
    return len(classes) if classes else getattr(data, "num_classes", None)


def num_classes_argument(config: DictConfig, data: L.LightningDataModule) -> dict[str, int]:
    """Return the argument `num_classes` of the model, which follows the data.

    Args:
        config: The `model` node of a config.
        data: The data module.

    Returns:
        The argument; empty where the default is right, so that a network of your own need not accept it.

    Raises:
        ArgumentError: If the config sets another number.
    """
    wanted, given = num_classes(data), config.get("num_classes")
    if wanted is None or given == wanted or (given is None and wanted == DigitModule.num_classes):
        return {}
    is_free = given is None
    check_argument(is_free, "num_classes", given, f"{wanted}, the number of classes of the data, or omitted")
    return {"num_classes": wanted}


def check_data(data: L.LightningDataModule, model: DigitModule) -> None:
    """Read the data, and check that a model can be trained on it.

    Args:
        data: The data module.
        model: The model. It is in evaluation mode afterwards.

    Raises:
        UsageError: If the data is missing or damaged, or does not fit the model.
    """
    data.prepare_data()
    classes = num_classes(data) or model.num_classes
    describe_datamodule(data, classes)  # is in each checkpoint, and refuses names that it could not hold
    with torch.no_grad():
        logits = model.eval()(model.example_input_array)
    if logits.shape[-1] != classes:
        raise UsageError(
            f"model: {model.architecture} returns {logits.shape[-1]} logits, but the data has {classes} classes; "
            "its last layer must have self.num_classes outputs"
        )
    if isinstance(data, ImageDataModule):
        return
    data.setup("fit")
    for loader in ("train_dataloader", "val_dataloader"):
        if loader == "train_dataloader" or is_overridden(loader, data, L.LightningDataModule):
            _check_batch(next(iter(getattr(data, loader)()), None), f"data: {type(data).__name__}.{loader}", classes)


def _check_batch(batch: Any, where: str, classes: int) -> None:
    """Check that the first batch of a data module of your own is one that the networks accept."""
    is_pair = isinstance(batch, Sequence) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if not is_pair:
        raise UsageError(f"{where}: the first batch is not a pair of tensors, images and labels")
    images, labels = batch
    n = len(labels) if labels.dim() else 0
    if images.shape not in ((n, 28, 28), (n, 1, 28, 28)) or labels.dim() != 1:
        raise UsageError(
            f"{where}: the first batch has images {list(images.shape)} and labels {list(labels.shape)}; they must be "
            "[N, 28, 28] or [N, 1, 28, 28], and [N]"
        )
    in_range = images.dtype == torch.uint8 or (images.is_floating_point() and images.min() >= 0 and images.max() <= 1)
    if not in_range:
        raise UsageError(
            f"{where}: the images must be uint8 from 0 to 255, or floating point from 0 to 1, not normalized"
        )
    if labels.dtype != torch.int64 or labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"{where}: the labels are {labels.dtype} from {labels.min()} to {labels.max()}; they must be torch.int64 "
            f"from 0 to {classes - 1}. An attribute `classes` of the data module, a list of names, sets their number"
        )


def check_teacher(teacher: Any, data: L.LightningDataModule) -> None:
    """Check that a teacher was trained on the data of its student.

    Args:
        teacher: The teacher. One that is not of digitnet is not checked.
        data: The data module.

    Raises:
        UsageError: If it was trained on another data set.
    """
    if not isinstance(teacher, DigitModule) or teacher.dataset is None:
        return
    record = describe_datamodule(data, teacher.num_classes)
    assert record is not None
    if (teacher.dataset.name, teacher.dataset.classes) != (record.name, record.classes):
        raise UsageError(
            f"distillation.teacher.model: was trained on {teacher.dataset.name}, but the data is {record.name}; "
            "name a run on the same data"
        )


def has_test_data(data: L.LightningDataModule) -> bool:
    """Return whether a data module has test images; one of your own need not have any."""
    return is_overridden("test_dataloader", data, L.LightningDataModule)


def has_validation_data(data: L.LightningDataModule) -> bool:
    """Return whether a data module has validation images."""
    if isinstance(data, ImageDataModule):
        return bool(data.val_size)
    return is_overridden("val_dataloader", data, L.LightningDataModule)


def unseen_validation(model: DigitModule, data: L.LightningDataModule) -> str | None:
    """Tell why the validation images of a data module may have trained a model.

    Args:
        model: A model or an ensemble.
        data: The data to score it on, after `prepare_data`.

    Returns:
        The reason, a part of a sentence; None if the model was not trained on these images.
    """
    if not has_validation_data(data):
        return "there are no validation images, the network was trained on all (data.val_size=0)"
    record = describe_datamodule(data, model.num_classes)
    assert record is not None
    modules = [each for each in model.modules() if isinstance(each, DigitModule) and not isinstance(each, Ensemble)]
    for trained in [each.dataset for each in modules]:
        if trained is None or (isinstance(data, ImageDataModule) and "val_size" not in trained.arguments):
            return "it is not recorded which images the network was not trained on"
        if (trained.name, trained.classes) != (record.name, record.classes):
            return f"the network was trained on {trained.name}, and {record.name} may have the same images"
        if any(trained.arguments.get(name) != record.arguments.get(name) for name in _VALIDATION_ARGUMENTS):
            return "the network was trained on some of these validation images (another data.val_size or split_seed)"
    return None


def collect_images(data: L.LightningDataModule, split: Literal["val", "test"]) -> tuple[Tensor, Tensor]:
    """Return the images of a split, to draw them or to compute something on them.

    Args:
        data: The data module.
        split: "val" or "test".

    Returns:
        Images `[N, 28, 28]` and labels `[N]`; of a data module of your own the first 10,000.
    """
    if isinstance(data, ImageDataModule):
        return data.split(split)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in getattr(data, f"{split}_dataloader")():
        images.append(batch[0].reshape(-1, 28, 28))
        labels.append(batch[1])
        if sum(map(len, labels)) >= _MAX_IMAGES:
            break
    return torch.cat(images), torch.cat(labels)


def add_recorded_data(overrides: list[str]) -> list[str]:
    """Add the data set that a model was trained on to the overrides of an evaluation, unless another one is named.

    Args:
        overrides: The overrides, with `model_ref=REF`.

    Returns:
        The overrides with `data=NAME` and the arguments that determine its test images. Values from the file of the
        model are numbers, a path, or one of the data sets of digitnet.
    """
    values = dict(re.findall(r"^\+*([\w.]+)=(.*)$", line, re.DOTALL)[0] for line in overrides if "=" in line[1:])
    reference = values.get("model_ref", "")
    if reference[:1] in ("'", '"'):
        reference = reference[1:-1].replace("\\'", "'")
    record = _read_record(reference)
    if record is None or record.name not in DATA_CHOICES or values.get("data", record.name) != record.name:
        return overrides
    added = [f"data={record.name}"] if "data" not in values else []
    for name, value in recorded_arguments(record).items():
        if f"data.{name}" in values:
            continue
        if not isinstance(value, str):
            added.append(f"data.{name}={str(value).lower()}")
        elif not re.search(r"[$\\'\"\n]", value):  # nothing that Hydra would interpret
            added.append(f"data.{name}='{value}'")
    return [*added, *overrides]


def _read_record(reference: str) -> DatasetRecord | None:
    """Return the record of the data set of a model; None if there is no such model, which is reported later."""
    if not reference or not Path(reference).exists():
        return None  # a bundled model, which was trained on MNIST
    try:
        path = pretrained.resolve_models(reference)[0]
        return pretrained.load_dataset_record(path)
    except UsageError:
        return None


def require_same_data(model: DigitModule, data: L.LightningDataModule, allow_other: bool, reference: str) -> None:
    """Check that a model is scored on the data set that it was trained on.

    Args:
        model: The model.
        data: The data to score it on.
        allow_other: Whether any data with the same number of classes is allowed.
        reference: The model reference, for the error message.

    Raises:
        UsageError: If the data is of another kind.
    """
    actual, trained = describe_datamodule(data, model.num_classes), model.dataset
    assert actual is not None
    if len(actual.classes) != model.num_classes:
        raise UsageError(
            f"model={reference}: has {model.num_classes} classes, but {actual.name} has {len(actual.classes)}; "
            f"score it on the data that it was trained on{f', {trained.name}' if trained else ''}"
        )
    if allow_other or (trained and (trained.name, trained.classes) == (actual.name, actual.classes)):
        return
    if trained is None:
        raise UsageError(
            f"model={reference}: it is not recorded which data it was trained on; allow_other_data=true scores it on "
            f"{actual.name}, data=NAME on another data set"
        )
    if trained.name == actual.name:
        raise UsageError(
            f"model={reference}: was trained on other classes of {trained.name}; allow_other_data=true "
            "scores it on these"
        )
    is_choice = trained.name in DATA_CHOICES
    own = f"data={trained.name}" if is_choice else "data=NAME for your own data module (with --config-dir and imports)"
    raise UsageError(
        f"model={reference}: was trained on {trained.name}, not on {actual.name}; type {own}, or "
        f"allow_other_data=true to score it on {actual.name}"
    )
