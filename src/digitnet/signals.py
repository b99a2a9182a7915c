"""Ends a command on SIGTERM, SIGUSR1 or Ctrl-C without leaving a half-written file.

A command ends at once; while it trains, it first saves its state. Lightning 2.6 exits with status 0 when a run is
terminated (#19916) and with 1 when it is interrupted, and may stop in the middle of a validation, while averaged
weights are swapped in.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Users of SLURM ask for SIGUSR1 before the time limit of a job. Windows does not have it.
SIGNALS = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
"""The signals that ask a command to end."""

REPEAT_SECONDS = 2.0
"""A second signal ends the process at once if it comes later than this after the first.

One event may send several signals: Ctrl-C reaches a launcher and its processes, and the launcher then signals them too.
"""


class ShutdownRequested(SystemExit):
    """A signal asked the process to end.

    The exit status is the one that a shell reports for a process killed by the signal: 128 plus its number. This is a
    SystemExit, so that it ends a whole sweep and not only the current job.

    Args:
        signal_number: Number of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)


class SignalState:
    """The signal that was received, if any, and whether it is handled now or later."""

    pending: int | None = None
    """Number of the first signal."""
    received: float = 0.0
    """Time of the first signal, by `time.monotonic`."""
    deferred: bool = False
    """Whether a `defer_signals` block is active."""


def raise_if_pending() -> None:
    """Raise ShutdownRequested if a signal was received.

    The signal may have been deferred, or an `except:` in imported code may have swallowed the exception.

    Raises:
        ShutdownRequested: If a signal was received.
    """
    if SignalState.pending is not None:
        raise ShutdownRequested(SignalState.pending)


def on_signal(signal_number: int, frame: FrameType | None = None) -> None:
    """Record the first signal, and raise ShutdownRequested unless signals are deferred; end at once on a later one."""
    if SignalState.pending is None:
        SignalState.pending, SignalState.received = signal_number, time.monotonic()
        if not SignalState.deferred:
            raise ShutdownRequested(signal_number)
    elif time.monotonic() - SignalState.received > REPEAT_SECONDS:
        os._exit(128 + signal_number)  # every file is replaced whole, so none is torn


def reinstall_handlers() -> None:
    """Handle SIGTERM again after Lightning has installed its own handler at the start of a fit.

    Nothing happens in a program that uses digitnet as a library and has not called `install_handlers`.
    """
    if signal.getsignal(signal.SIGINT) is on_signal:
        signal.signal(signal.SIGTERM, on_signal)


@contextmanager
def install_handlers() -> Iterator[None]:
    """Raise ShutdownRequested on SIGTERM, SIGUSR1 or Ctrl-C inside the block.

    Yields:
        Nothing.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    SignalState.pending, SignalState.deferred = None, False
    for number in SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        SignalState.pending = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Raise ShutdownRequested only at the end of the block.

    Code inside the block may look at `SignalState.pending` and finish early.

    Yields:
        Nothing.
    """
    SignalState.deferred = True
    try:
        yield
    finally:
        SignalState.deferred = False
    raise_if_pending()
