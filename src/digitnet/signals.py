"""SIGTERM and Ctrl-C end a command where nothing is torn: at once, or while it trains, once its state is saved.

Lightning 2.6 leaves 0 as the exit status of a terminated run (#19916), 1 for an interrupted one, and may stop in the
middle of a validation, when averaged weights are swapped in.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Ends the process, and a sweep too, with the status that a shell gives to a process killed by the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class State:
    received: int | None = None  # the first one; those who press twice get no second chance to tear a file
    postponed = False


def stop() -> None:
    """Raises Stopped if there was a signal: it was postponed, or some `except:` in an import took it for an error."""
    if State.received is not None:
        raise Stopped(State.received)


def handle(number: int, frame: FrameType | None = None) -> None:
    if State.received is None:
        State.received = number
        if not State.postponed:
            raise Stopped(number)


def listen_again() -> None:
    """Lightning has put itself before us when a fit begins; not for those who use digitnet without its commands."""
    if signal.getsignal(signal.SIGINT) is handle:
        signal.signal(signal.SIGTERM, handle)


@contextmanager
def handled() -> Iterator[None]:
    """A signal raises Stopped in here."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    State.received, State.postponed = None, False
    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        State.received = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """A signal raises Stopped only at the end of this block; whoever works in it may look at `received` and go."""
    State.postponed = True
    try:
        yield
    finally:
        State.postponed = False
    stop()
