"""Ends a command on SIGTERM, SIGUSR1 or Ctrl-C without leaving a half-written file.

A command ends at once; while it trains, it first saves its state. Lightning 2.6 exits with status 0 when a run is
terminated (#19916) and with 1 when it is interrupted, and may stop in the middle of a validation, while averaged
weights are swapped in.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Users of SLURM ask for SIGUSR1 before the time limit of a job. Windows does not have it.
_SIGNALS = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


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
    """Number of the first signal. Later ones are ignored: pressing Ctrl-C twice must not interrupt the saving."""
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
    """Record the first signal, and raise ShutdownRequested unless signals are deferred."""
    if SignalState.pending is None:
        SignalState.pending = signal_number
        if not SignalState.deferred:
            raise ShutdownRequested(signal_number)


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
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    SignalState.pending, SignalState.deferred = None, False
    for number in _SIGNALS:
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
