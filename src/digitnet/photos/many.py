"""Many picture files at a time, by as many processes as there are cores."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from digitnet import signals
from digitnet.errors import UsageError
from digitnet.photos.files import load
from digitnet.photos.ink import Found, find_digits

MANY = 64  # files that are worth the start of other processes, a second


def look(path: Path) -> list[Found] | UsageError:
    """The digits in a file, or why it is no picture: returned, for the next file is to be looked at all the same."""
    try:
        return find_digits(load(path))
    except UsageError as error:
        return error


def look_at(paths: Sequence[Path]) -> Iterator[list[Found] | UsageError]:
    """In the order of the paths."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(paths) < MANY or cores == 1:
        yield from map(look, paths)
        return
    resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:  # the processes start with it blocked, and stay so: Ctrl-C is for this one to answer, and not half-way
        with signals.postponed():
            pool = multiprocessing.get_context("spawn").Pool(cores)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with pool:
        yield from pool.imap(look, paths, chunksize=8)
