"""Finds the data again that a model was trained on, from the record in its checkpoint or its card."""

from pathlib import Path
from typing import Any

from digitnet.data import (
    DATASETS,
    ArrayDataModule,
    FolderDataModule,
    ImageDataModule,
    MNISTDataModule,
    PublishedDataModule,
)
from digitnet.errors import UsageError
from digitnet.models import DatasetRecord

DATA_CHOICES = ("mnist", *DATASETS, "folder", "arrays")
"""The data sets that a record may choose; a data module of your own must be named by you."""

SPLIT_ARGUMENTS: dict[str, type | tuple[type, ...]] = {
    "root": str,
    "val_size": (int, float),
    "test_size": (int, float),
    "split_seed": int,
    "invert": bool,
}
"""The arguments that are taken over from a record, and their types. They determine which image is in which split."""


def open_recorded_data(record: DatasetRecord | None, root: str | Path | None = None) -> ImageDataModule | None:
    """Return the data module of a record, if its data is here. Nothing is downloaded.

    Args:
        record: The record of a model.
        root: The folder of the data, instead of the recorded one.

    Returns:
        The data module; None if the data set is not known, not one of digitnet, or not here.

    Raises:
        UsageError: If there is a `root`, and the data is not there.
    """
    if record is None or record.name not in DATA_CHOICES:
        return None
    arguments = recorded_arguments(record)
    if root is not None:
        arguments["root"] = str(root)
    kinds: dict[str, Any] = {"mnist": MNISTDataModule, "folder": FolderDataModule, "arrays": ArrayDataModule}
    try:
        dataset = () if record.name in kinds else (record.name,)
        data: ImageDataModule = kinds.get(record.name, PublishedDataModule)(*dataset, **arguments)
        data.prepare_data()
        if data.classes != record.classes:
            raise UsageError(f"{arguments.get('root')}: has other classes than the model was trained on")
        return data
    except (UsageError, TypeError):
        if root is not None:
            raise
        return None


def recorded_arguments(record: DatasetRecord) -> dict[str, Any]:
    """Return the arguments of a record that are known and of the right type; a file may hold anything.

    Args:
        record: The record of a model.
    """
    return {
        name: value
        for name, value in record.arguments.items()
        if isinstance(value, SPLIT_ARGUMENTS.get(name, ()))
        and isinstance(value, bool) == (SPLIT_ARGUMENTS[name] is bool)
    }
