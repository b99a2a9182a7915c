"""The errors that a command answers with one line instead of a traceback."""


class UsageError(ValueError):
    """The input is wrong, and nothing was changed.

    The message is one line that states what is wrong, where, and what to do. A command exits with status 2.
    """


class RunError(RuntimeError):
    """A run cannot continue; everything that it has saved is intact.

    The message is one line that states what happened, where, and what to do. A command exits with status 1.
    """


class DivergenceError(RunError):
    """The weights, the loss or a metric of a run are not finite any more; a sweep then goes on with other values."""


class ArgumentError(UsageError):
    """An argument has a value that its function or class does not accept.

    Args:
        argument: Name of the argument, as in the signature.
        value: The value that was passed.
        requirement: What the value must be, to follow the words "must be".
    """

    def __init__(self, argument: str, value: object, requirement: str) -> None:
        super().__init__(f"{argument}={value}: must be {requirement}")
        self.argument, self.value, self.requirement = argument, value, requirement


def check_argument(condition: bool, argument: str, value: object, requirement: str) -> None:
    """Raise an error unless a condition on an argument holds.

    Args:
        condition: Whether the value is accepted.
        argument: Name of the argument, as in the signature.
        value: The value that was passed.
        requirement: What the value must be, to follow the words "must be".

    Raises:
        ArgumentError: If the condition does not hold.
    """
    if not condition:
        raise ArgumentError(argument, value, requirement)
