"""A command in a process of its own that is forked after torch was imported: a trial costs a second, not five.

What a trial goes through is the command's own main().
"""

import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from digitnet import (
    evaluate,
    plots,  # noqa: F401 (imported once, for all forks)
    train,
)
from digitnet.data import mnist

mnist.load_mnist("train"), mnist.load_mnist("test")

COMMANDS = {"train": train.main, "evaluate": evaluate.main}

# 24 steps in 3 epochs with everything that could be lost on the way: one-cycle, augmentation, batch norm, dropout,
# averaged weights. (trainer.log_every_n_steps=1 makes the curve of the learning rate a witness too.)
TINY = (
    "model=cnn", "model.channels=[4]", "model.kernel_size=5", "model.stride=4", "model.pool_size=1",
    "model.dropout=0.5", "weight_averaging=ema", "trainer.max_epochs=3", "trainer.log_every_n_steps=1",
    "data.train_size=512", "data.val_size=500", "data.batch_size=64",
)  # fmt: skip
STEPS_AN_EPOCH, STEPS = 8, 24

Action = Callable[..., Any]  # takes what the sabotaged function takes


@dataclass
class Ended:
    status: int  # negative: killed by that signal
    out: str
    err: str
    seconds: float


@dataclass
class Sabotage:
    """Does something at the n-th call of a function, before or in place of it."""

    target: str  # module:object.attribute
    nth: int  # from 1; 0 for every call
    action: Action
    instead: bool = False

    def arm(self) -> None:
        module, path = self.target.split(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        original, calls = getattr(owner, name), 0

        @functools.wraps(original)
        def sabotaged(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if self.nth in (0, calls):
                result = self.action(*args, **kwargs)
                if self.instead:
                    return result
            return original(*args, **kwargs)

        setattr(owner, name, sabotaged)


class Send:
    """Signals to itself; the handler of one has begun before the next is sent."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __call__(self, *_: Any, **__: Any) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)


@dataclass
class Alarm:
    """Dies without warning, as of SIGKILL, some seconds from now, wherever the process then is."""

    seconds: float

    def __call__(self, *_: Any, **__: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)


@dataclass
class Wait:
    """Says that it is there, and goes on when as many others are."""

    folder: Path
    others: int = 1

    def __call__(self, *_: Any, **__: Any) -> None:
        (self.folder / str(os.getpid())).touch()
        while len(list(self.folder.iterdir())) <= self.others:
            time.sleep(0.01)


@dataclass
class Rest:
    seconds: float

    def __call__(self, *_: Any, **__: Any) -> None:
        time.sleep(self.seconds)


@dataclass
class Fail:
    number: int

    def __call__(self, *_: Any, **__: Any) -> None:
        raise OSError(self.number, os.strerror(self.number))


@dataclass
class Give:
    value: Any = None

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.value


NO_FIGURES = Sabotage("digitnet.training.experiment:add_mistakes", 0, Give(), instead=True)  # half the time of a trial


def main(command: str, arguments: Sequence[str], folder: Path, sabotages: Sequence[Sabotage]) -> None:
    """In the child: the command, as if typed in `folder`."""
    os.chdir(folder)
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        os.dup2(os.open(folder / f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    for sabotage in sabotages:
        sabotage.arm()
    sys.argv[1:] = arguments
    COMMANDS[command]()


class Forks:
    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.faults.warm"])
        forkserver.ensure_running()  # here: it finds the tests by the folder that it is started in

    def start(self, command: str, *arguments: str, folder: Path, sabotages: Sequence[Sabotage] = ()) -> Any:
        process = self.context.Process(target=main, args=(command, arguments, folder, sabotages))
        process.start()
        return process

    def run(self, command: str, *arguments: str, folder: Path, sabotages: Sequence[Sabotage] = ()) -> Ended:
        start = time.perf_counter()
        process = self.start(command, *arguments, folder=folder, sabotages=sabotages)
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{command} {arguments} hangs")
        texts = [(folder / f".{name}").read_text() if (folder / f".{name}").exists() else "" for name in ("out", "err")]
        return Ended(process.exitcode, *texts, seconds=time.perf_counter() - start)
