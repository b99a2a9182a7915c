"""The two errors that are an answer: the commands print their one line, and no traceback."""


class UsageError(ValueError):
    """The input is wrong, and nothing has been done. What, where, what to do, in one line; exit status 2."""


class RunError(RuntimeError):
    """A run cannot go on, and what it has saved is whole. What, where, what to do, in one line; exit status 1."""


def require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise UsageError(f"{name}={value}: must be {rule}")
