"""Describes the type of an argument in the words of a user."""

import dataclasses
import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_ORDER = ("null", "true", "false")
_WORDS: dict[Any, list[str]] = {
    None: ["null"], NoneType: ["null"], bool: ["true", "false"], int: ["a whole number"], float: ["a number"],
    str: ["text"], dict: ["a mapping"], list: ["a list"], tuple: ["a list"],
}  # fmt: skip


def describe_type(annotation: Any) -> str:
    """Describe which values fit an annotation.

    Args:
        annotation: The annotation of an argument.

    Returns:
        The description, such as "null or a mapping such as {rotation: 10}", to follow the words "must be".
    """
    parts = list(dict.fromkeys(_parts(annotation)))
    if "a number" in parts:
        parts = [part for part in parts if part != "a whole number"]
    if "a path" in parts:
        parts = [part for part in parts if part != "text"]
    first = [part for part in _ORDER if part in parts]
    *others, last = first + [part for part in parts if part not in first]
    return f"{', '.join(others)} or {last}" if others else last


def _parts(annotation: Any) -> list[str]:
    """Return the descriptions of the alternatives of an annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return [part for argument in arguments for part in _parts(argument)]
    if origin is Literal:
        return [str(value).lower() if isinstance(value, bool) else str(value) for value in arguments]
    if annotation in _WORDS:
        return _WORDS[annotation]
    if hasattr(annotation, "__fspath__"):
        return ["a path"]
    kind = origin or annotation
    if not inspect.isclass(kind):
        return ["another value"]
    if issubclass(kind, Mapping):
        return ["a mapping"]
    if issubclass(list, kind) or kind is tuple:
        item = describe_type(arguments[0]) if arguments else ""
        examples = {"a whole number": "a list such as [1, 2]", "a number": "a list such as [0.1, 0.2]"}
        return [examples.get(item, f"a list of {item}" if item else "a list")]
    return [_describe_class(kind)]


def _describe_class(kind: type) -> str:
    """Describe the mapping from which an object is built."""
    fields = getattr(kind, "field_types", None)
    if fields is None and dataclasses.is_dataclass(kind):
        fields = {field.name: field.type for field in dataclasses.fields(kind)}
    numeric = [name for name, field_type in (fields or {}).items() if field_type in (int, float)]
    return f"a mapping such as {{{numeric[0]}: 10}}" if numeric else f"{{_target_: ...}} of a {kind.__name__}"
