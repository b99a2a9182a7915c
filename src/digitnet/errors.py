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


class UnknownModelError(UsageError):
    """A file names a network whose class is not known.

    Args:
        path: The file.
        name: What the file states as the name of the class.
    """

    def __init__(self, path: object, name: object) -> None:
        self.path, self.name = path, str(name)[:100]
        super().__init__(self.with_remedy("call `import {}` first"))

    def with_remedy(self, remedy: str) -> str:
        """Return the message for one way to use digitnet.

        Args:
            remedy: What to do, with "{}" for the name of the module.
        """
        module = self.name.rpartition(".")[0]
        known = module != "__main__" and all(part.isidentifier() for part in module.split("."))
        what = remedy.format(module) if known else remedy.format("MODULE") + " with the module that defines it"
        return f"{self.path}: holds a {self.name}, a class that no imported module defines; if you trust it, {what}"


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
