"""Reads from source code which arguments a class accepts, and of which types, without importing anything.

The import of torch and Lightning takes seconds, and a misspelled key should be reported at once. What cannot be read,
such as a class without source code, is left to `digitnet.cli.signatures`, which imports the class.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from digitnet.cli.signatures import ANY_NAME

_BUILTIN_TYPES: dict[str, Any] = {
    "bool": bool, "int": int, "float": float, "str": str, "list": list, "List": list, "tuple": tuple, "Tuple": tuple,
    "dict": dict, "Dict": dict, "Mapping": Mapping, "Sequence": Sequence, "Path": Path, "PathLike": Path,
    "set": set, "Set": set,
}  # fmt: skip
_BASES_WITHOUT_ARGUMENTS = ("object", "ABC", "Generic", "Protocol")
_ANY = ("Any", "object")


class SourceClass:
    """Stands for a class that was not imported. A value fits only if it is a mapping with a `_target_`."""

    field_types: Mapping[str, Any] = {}
    """The fields and their types, if the class is a dataclass."""


class _UnreadableError(Exception):
    """The source code does not answer the question."""


@dataclass(frozen=True)
class _Module:
    name: str
    path: Path

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


_Definition = tuple[_Module, ast.ClassDef | ast.FunctionDef | ast.expr]


@cache
def source_parameters(target: str) -> dict[str, Any] | None:
    """Return the arguments that a class or a function accepts, as far as its source code shows them.

    Args:
        target: The dotted name, as in `_target_`.

    Returns:
        Types by name, with `ANY_NAME` if any other name is accepted as well; None if the source code cannot be read. A
        type that the source code leaves open is `Any`.
    """
    try:
        module, definition = _find(target)
        if isinstance(definition, ast.FunctionDef):
            return _arguments_of(module, definition)
        if not isinstance(definition, ast.ClassDef):
            return None
        found: dict[str, Any] = {}
        for arguments in _constructors(module, definition):
            is_last = arguments.pop(ANY_NAME, None) is None
            found = arguments | found
            if is_last:
                return found
        return found | {ANY_NAME: Any}
    except (_UnreadableError, OSError, ValueError, SyntaxError, RecursionError):
        return None


def _constructors(module: _Module, definition: ast.ClassDef) -> Iterator[dict[str, Any]]:
    """Yield the arguments of the constructors of a class and of its parents, the nearest first."""
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            arguments = _arguments_of(module, statement)
            arguments.pop(statement.args.args[0].arg)
            yield arguments
    if any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list):
        yield _fields(module, definition)
    for base in definition.bases:
        name = _dotted(base.value if isinstance(base, ast.Subscript) else base)
        if name.rpartition(".")[2] not in _BASES_WITHOUT_ARGUMENTS:
            parent_module, parent = _find_in(module, name)
            if not isinstance(parent, ast.ClassDef):
                raise _UnreadableError(name)
            yield from _constructors(parent_module, parent)


def _arguments_of(module: _Module, function: ast.FunctionDef) -> dict[str, Any]:
    named = [*function.args.args, *function.args.kwonlyargs]
    arguments = {each.arg: _type_of(module, each.annotation) for each in named}
    return arguments | ({ANY_NAME: Any} if function.args.kwarg else {})


def _fields(module: _Module, definition: ast.ClassDef) -> dict[str, Any]:
    """Return the fields of a dataclass."""
    return {
        statement.target.id: _type_of(module, statement.annotation)
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _type_of(module: _Module, annotation: ast.expr | None) -> Any:
    """Return the type that an annotation describes; Any if that is not certain."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str() as text):
            return _type_of(module, ast.parse(text, mode="eval").body)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[_type_of(module, left), _type_of(module, right)]  # noqa: UP007 (Any has no |)
        case ast.Subscript(value=generic, slice=argument):
            items = argument.elts if isinstance(argument, ast.Tuple) else [argument]
            return _generic_type(module, _dotted(generic).rpartition(".")[2], items)
        case ast.Name() | ast.Attribute():
            return _named_type(module, _dotted(annotation))
        case _:
            return Any


def _generic_type(module: _Module, name: str, items: list[ast.expr]) -> Any:
    if name == "Literal":
        values = tuple(item.value for item in items if isinstance(item, ast.Constant))
        return Literal[values] if len(values) == len(items) else Any
    types: Any = [... if ast.unparse(item) == "..." else _type_of(module, item) for item in items]
    if name == "Optional":
        return types[0] | None if types[0] is not Any else Any
    if name == "Union":
        return Union.__getitem__(tuple(types))
    generic: Any = Sequence if name == "Iterable" else _BUILTIN_TYPES.get(name)
    return generic[tuple(types)] if hasattr(generic, "__class_getitem__") else Any


def _named_type(module: _Module, name: str) -> Any:
    last = name.rpartition(".")[2]
    if last in _ANY or last in _BUILTIN_TYPES:
        return _BUILTIN_TYPES.get(last, Any)
    try:
        found_module, definition = _find_in(module, name, same_package=True)
    except (_UnreadableError, OSError, ValueError, SyntaxError):
        return Any
    if isinstance(definition, ast.ClassDef):
        is_value = any(_dotted(base).rpartition(".")[2] in _BUILTIN_TYPES for base in definition.bases)
        if is_value or "Enum" in ast.unparse(definition).partition(":")[0]:
            return Any
        return type(definition.name, (SourceClass,), {"field_types": _fields(found_module, definition)})
    return _type_of(found_module, definition) if isinstance(definition, ast.expr) else Any


def _dotted(expression: ast.expr) -> str:
    return ast.unparse(expression)


def _find(name: str, package: str | None = None) -> _Definition:
    """Return the definition of a dotted name, in the given package or in any."""
    top, *rest = name.split(".")
    if package not in (None, top):
        raise _UnreadableError(name)
    spec = importlib.util.find_spec(top)  # imports nothing, because the name has no dot
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise _UnreadableError(name)
    module = _Module(top, Path(spec.origin))
    for position, part in enumerate(rest):
        after = rest[position + 1 :]
        binding = _bindings(module.path).get(part)
        submodule = None if binding is not None else _submodule(module, part)
        if submodule is not None:
            module = submodule
        elif isinstance(binding, ast.ImportFrom | ast.Import):
            return _find(".".join([_imported_name(module, binding, part), *after]), package)
        elif binding is not None and not after:
            return module, binding
        else:
            break
    raise _UnreadableError(name)


def _find_in(module: _Module, name: str, same_package: bool = False) -> _Definition:
    """Return the definition of a name that is used in a module, in any package or in the package of the module only.

    The source code of torch is long, and its types are of no use here.
    """
    return _find(f"{module.name}.{name}", module.name.partition(".")[0] if same_package else None)


def _submodule(module: _Module, name: str) -> _Module | None:
    if module.path.name == "__init__.py":
        for path in (module.path.parent / name / "__init__.py", module.path.parent / f"{name}.py"):
            if path.is_file():
                return _Module(f"{module.name}.{name}", path)
    return None


def _imported_name(module: _Module, statement: ast.ImportFrom | ast.Import, name: str) -> str:
    """Return the full name of what an import statement binds to a name."""
    (alias,) = (each for each in statement.names if (each.asname or each.name.partition(".")[0]) == name)
    if isinstance(statement, ast.Import):
        return alias.name if alias.asname else name
    parents = module.package.split(".")[: len(module.package.split(".")) + 1 - statement.level]
    source = [*(parents if statement.level else []), *([statement.module] if statement.module else [])]
    return ".".join([*source, alias.name])


@cache
def _bindings(path: Path) -> dict[str, Any]:
    """Return what the top level of a file binds to each name; the first binding counts, as in try ... except."""
    found: dict[str, Any] = {}
    for statement in _top_level(ast.parse(path.read_bytes()).body):
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.setdefault(name, statement)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    found.setdefault(alias.asname or alias.name.partition(".")[0], statement)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.setdefault(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.setdefault(name, value)
    return found


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, those within if and try included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _top_level([*statement.body, *statement.orelse])
