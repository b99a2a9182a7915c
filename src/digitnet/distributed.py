"""Whether this process is the main process of a run."""

import os


def is_main_process() -> bool:
    """Return whether this process checks the input, holds the lock of the run folder and writes the records.

    Lightning's launcher and torchrun set `LOCAL_RANK` in the processes that they start. The process that a user started
    has no such variable, even before a Trainer exists.
    """
    return "LOCAL_RANK" not in os.environ
