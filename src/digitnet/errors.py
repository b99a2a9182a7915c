"""The one error that means: the input is wrong, and nothing has been done."""


class UsageError(ValueError):
    """What is wrong, where, and what to do, in one line; the commands answer it with exit status 2."""


def require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise UsageError(f"{name}={value}: must be {rule}")
