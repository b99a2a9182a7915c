"""Many picture files at a time, by as many processes as there are cores."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.pool import IMapIterator
from pathlib import Path

from digitnet import signals
from digitnet.errors import RunError, UsageError
from digitnet.inference.photos.image_io import load
from digitnet.inference.photos.segment import Found, find_digits

Outcome = list[Found] | UsageError

MANY = 64  # files that are worth the start of other processes, a second


def look(path: Path) -> Outcome:
    """The digits in a file, or why it is no picture: returned, for the next file is to be looked at all the same."""
    try:
        return find_digits(load(path))
    except UsageError as error:
        return error


def look_at(paths: Sequence[Path]) -> Iterator[Outcome]:
    """In the order of the paths. Raises RunError if one of the processes is killed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(paths) < MANY or cores == 1:
        yield from map(look, paths)
        return
    resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:  # the processes start with it blocked, and stay so: Ctrl-C is for this one to answer, and not half-way
        with signals.defer_signals():
            pool = multiprocessing.get_context("spawn").Pool(cores)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with pool:
        started, outcomes = running(), pool.imap(look, paths)
        for _ in paths:
            yield awaited(outcomes, started)


def running() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def awaited(outcomes: "IMapIterator[Outcome]", started: set[int | None]) -> Outcome:
    """The next one. The pool puts a new process in the place of one that was killed, and would wait for ever."""
    while True:
        try:
            return outcomes.next(timeout=1)
        except multiprocessing.TimeoutError:
            if not started <= running():
                raise RunError("a process was killed, perhaps for memory; read fewer files at a time") from None
