"""The one error that means: the input is wrong, nothing has been done."""


class UsageError(ValueError):
    """What is wrong, where, and what to do, in one line; the commands answer it with exit status 2."""
