"""The record of the data set that a model was trained on, in its checkpoint and its card."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from digitnet.errors import UsageError

_MAX_CLASSES = 10_000
_MAX_NAME_LENGTH = 200


@dataclass(frozen=True)
class DatasetRecord:
    """Name and classes of a data set. Everything in it may come from a file of a stranger, and is used as data only.

    Raises:
        ValueError: If an entry is not of its type, a name has characters that cannot be printed, or two classes have
            the same name.
    """

    name: str
    """Name of the data set: that of a choice of `data=NAME`, or of the class of a data module of your own."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    arguments: dict[str, int | float | bool | str | None] = field(default_factory=dict)
    """Arguments of the data module that determine which images are in which split, and `root`, where the data was."""

    def __post_init__(self) -> None:
        names = [self.name, *self.classes, *self.arguments]
        for name in names:
            if not (isinstance(name, str) and name.isprintable() and len(name) <= _MAX_NAME_LENGTH):
                raise ValueError(
                    f"the name {name!r:.60} is not a printable text of at most {_MAX_NAME_LENGTH} characters"
                )
        if not 1 <= len(self.classes) <= _MAX_CLASSES:
            raise ValueError(f"there are {len(self.classes)} classes, not from 1 to {_MAX_CLASSES}")
        if repeated := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise ValueError(f"the class {repeated[0]!r} is there twice")
        if not all(value is None or isinstance(value, int | float | str) for value in self.arguments.values()):
            raise ValueError("an argument of the data set is not a number or a text")

    @classmethod
    def from_dict(cls, content: Any) -> "DatasetRecord":
        """Return the record that `to_dict` has returned.

        Args:
            content: The content of a file.

        Raises:
            ValueError: If it is not such a record.
        """
        if not isinstance(content, dict) or not isinstance(content.get("classes"), list | tuple):
            raise ValueError("the record of the data set is damaged")
        arguments = content.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ValueError("the record of the data set is damaged")
        return cls(content.get("name", ""), tuple(content["classes"]), arguments)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain containers."""
        return {"name": self.name, "classes": list(self.classes), "arguments": dict(self.arguments)}

    def public_dict(self) -> dict[str, Any]:
        """Return the record without `root`, a path of this machine, for files to publish."""
        return self.to_dict() | {"arguments": {key: value for key, value in self.arguments.items() if key != "root"}}


MNIST_RECORD = DatasetRecord("mnist", tuple("0123456789"))
"""The record that files of digitnet 0.1.0 lack: everything was trained on MNIST then."""


def describe_datamodule(datamodule: Any, num_classes: int) -> DatasetRecord | None:
    """Return the record of the data set of a data module.

    Args:
        datamodule: A LightningDataModule: one of digitnet, which has a method `describe`, or any other, whose attribute
            `classes` names the classes if there is one. None if the loaders were given to the Trainer directly.
        num_classes: Number of classes of the model.

    Returns:
        The record; None without a data module, when nothing is known.

    Raises:
        UsageError: If the data module has names that a record cannot have.
    """
    if datamodule is None:
        return None
    kind = type(datamodule)
    try:
        if callable(getattr(datamodule, "describe", None)):
            return DatasetRecord.from_dict(datamodule.describe())
        names = tuple(map(str, getattr(datamodule, "classes", None) or range(num_classes)))
        return DatasetRecord(f"{kind.__module__}.{kind.__qualname__}", names)
    except UsageError:  # the data is missing or damaged
        raise
    except ValueError as error:
        raise UsageError(
            f"data: {kind.__name__}: {error}; change that, because each checkpoint records the classes"
        ) from error
