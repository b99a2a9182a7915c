"""Whether this process is the main process of a run."""

import os


def is_main_process() -> bool:
    """Return whether this process checks the input, holds the lock of the run folder and writes the records.

    Lightning's launcher sets `LOCAL_RANK` in the processes that it starts, and not in the process that the user
    started, even before a Trainer exists. torchrun sets it in all processes, so that none of them does this there.
    """
    return "LOCAL_RANK" not in os.environ
