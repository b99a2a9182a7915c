"""Detect the digits in many picture files, in as many processes as there are cores."""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType

from digitnet import signals
from digitnet.errors import RunError, UsageError
from digitnet.inference.photos.segment import DetectedDigit, detect_in

Detection = list[DetectedDigit] | UsageError

MIN_PARALLEL_FILES = 64  # fewer are not worth the start of other processes, which takes a second
FILES_PER_WORKER = 8  # that are submitted in advance, and whose results may wait for an earlier one


def detect_files(paths: Sequence[Path]) -> Iterator[Detection]:
    """Detect the digits in each of several files.

    Args:
        paths: The files. From `MIN_PARALLEL_FILES` files on, several processes share the work.

    Yields:
        For each path in turn, the digits in reading order, or the error if it is not a picture.

    Raises:
        RunError: If one of the processes is killed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(paths) < MIN_PARALLEL_FILES or cores == 1:
        yield from map(_detect_file, paths)
        return
    resource_tracker.ensure_running()  # its start unblocks SIGINT
    executor = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"))
    remaining, pending = iter(paths), deque[Future[Detection]]()
    try:
        for path in islice(remaining, FILES_PER_WORKER * cores):
            pending.append(_submit(executor, path))
        while pending:
            yield pending.popleft().result()
            for path in islice(remaining, 1):
                pending.append(_submit(executor, path))
    except BrokenProcessPool:
        raise RunError("a process was killed, perhaps for memory; read fewer files at a time") from None
    finally:
        _terminate_workers(executor)


def _detect_file(path: Path) -> Detection:
    """Detect the digits in a file; return the error instead of raising it, so that the next files are still read."""
    try:
        return detect_in(path)
    except UsageError as error:
        return error


def _submit(executor: ProcessPoolExecutor, path: Path) -> "Future[Detection]":
    """Submit a file, which may start a process: with SIGINT blocked, so that only this process answers Ctrl-C."""
    with signals.defer_signals(), _sigint_blocked(), _main_module_hidden():
        return executor.submit(_detect_file, path)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT; processes that are started inside the block inherit this and never receive it."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Hide the main program from the processes that are started inside the block.

    They would import it again, and all that it imports: with torch, this takes longer than hundreds of pictures.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _terminate_workers(executor: ProcessPoolExecutor) -> None:
    """End the processes at once, whatever they do; Python 3.14 has `terminate_workers` for this."""
    for process in list((executor._processes or {}).values()):
        process.terminate()
    executor.shutdown(cancel_futures=True)
