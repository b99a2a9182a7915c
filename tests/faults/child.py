"""Run a command of digitnet, with injected faults, in a forked process that has imported torch already.

A trial takes about one second this way instead of five. It runs the same `main()` as the installed command.
"""

import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from types import MappingProxyType
from typing import Any

from digitnet import (
    evaluate,
    plots,  # noqa: F401 (imported here so that no forked process has to import matplotlib)
    sweep,
    train,
)
from digitnet.data import mnist
from tests.conftest import CompletedRun

mnist.load_mnist("train"), mnist.load_mnist("test")

COMMANDS = {"train": train.main, "evaluate": evaluate.main, "sweep": sweep.main}

# Overrides of a run of 24 steps in 3 epochs that uses every component whose state could be lost in an interruption:
# the linear schedule, augmentation, batch normalization, dropout and weight averaging. With
# trainer.log_every_n_steps=1 the curve of the learning rate has one point per step, so that it can be compared too.
TINY = (
    "model=cnn", "model.channels=[4]", "model.kernel_size=5", "model.stride=4", "model.pool_size=1",
    "model.dropout=0.5", "weight_averaging=ema", "trainer.max_epochs=3", "trainer.log_every_n_steps=1",
    "data.train_size=512", "data.val_size=500", "data.batch_size=64",
)  # fmt: skip
STEPS_PER_EPOCH, STEPS = 8, 24

Action = Callable[..., Any]
"""What a fault does. It is called with the arguments of the function that the fault is injected into."""


@dataclass
class FaultInjection:
    """Run an action at the nth call of a function, before the function or in place of it."""

    target: str
    """Address of the function: `module:function` or `module:Class.method`."""
    nth: int
    """Number of the call, counted from 1; 0 stands for every call."""
    action: Action
    replace: bool = False
    """Whether the action takes the place of the call, and its return value that of the function."""

    def install(self) -> None:
        """Patch the function in its own module and wherever digitnet has imported it by name."""
        module, path = self.target.split(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        original, calls = getattr(owner, name), 0

        @functools.wraps(original)
        def faulty(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if self.nth in (0, calls):
                result = self.action(*args, **kwargs)
                if self.replace:
                    return result
            return original(*args, **kwargs)

        setattr(owner, name, faulty)
        for importer in list(sys.modules.values()):  # modules that executed `from module import name`
            if getattr(importer, "__name__", "").startswith("digitnet") and vars(importer).get(name) is original:
                setattr(importer, name, faulty)


class SendSignal:
    """Send signals to this process, each after the handler of the one before it has started."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __call__(self, *_: Any, **__: Any) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)


@dataclass
class KillAfter:
    """Kill this process some seconds from now, wherever it is then; like SIGKILL, no handler can intervene."""

    seconds: float

    def __call__(self, *_: Any, **__: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)


@dataclass
class Barrier:
    """Wait until other processes have reached this point as well."""

    folder: Path
    """Folder in which every process that arrives creates a file."""
    others: int = 1
    """Number of processes to wait for, without this one."""

    def __call__(self, *_: Any, **__: Any) -> None:
        (self.folder / str(os.getpid())).touch()
        while len(list(self.folder.iterdir())) <= self.others:
            time.sleep(0.01)


@dataclass
class Sleep:
    """Sleep for some seconds."""

    seconds: float

    def __call__(self, *_: Any, **__: Any) -> None:
        time.sleep(self.seconds)


@dataclass
class RaiseOSError:
    """Raise an OSError with an error number of the module `errno`."""

    number: int

    def __call__(self, *_: Any, **__: Any) -> None:
        raise OSError(self.number, os.strerror(self.number))


@dataclass
class ReturnValue:
    """Return a value."""

    value: Any = None

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.value


NO_ERROR_PLOTS = FaultInjection(
    "digitnet.training.visualization:visualize_run", 0, ReturnValue(), replace=True
)  # The plots take half the time of a trial.


def _run_in_child(
    command: str,
    arguments: Sequence[str],
    folder: Path,
    faults: Sequence[FaultInjection],
    environment: Mapping[str, str],
    suffix: str,
) -> None:
    """In the child process, run the command as if it had been typed in `folder`, with its output in files there."""
    os.chdir(folder)
    os.environ.update(environment)
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        os.dup2(os.open(folder / f".{name}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    for fault in faults:
        fault.install()
    sys.argv[1:] = arguments
    COMMANDS[command]()


class ForkServer:
    """Start commands in processes that are forked from one that has loaded everything already."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.faults.forkserver_preload"])
        # Start the server now: it imports the package `tests` from the folder that it is started in.
        forkserver.ensure_running()

    def start(
        self,
        command: str,
        *arguments: str,
        folder: Path,
        faults: Sequence[FaultInjection] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        suffix: str = "",
    ) -> Any:
        """Start a command and return its process, which writes its output to .out and .err with a suffix."""
        variables = dict(environment)
        process = self.context.Process(
            target=_run_in_child, args=(command, arguments, folder, faults, variables, suffix)
        )
        process.start()
        return process

    def run(self, command: str, *arguments: str, folder: Path, faults: Sequence[FaultInjection] = ()) -> CompletedRun:
        """Run a command to its end; raise TimeoutError if that takes longer than two minutes."""
        start = time.perf_counter()
        process = self.start(command, *arguments, folder=folder, faults=faults)
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{command} {arguments} has not ended after 120 s")
        texts = [(folder / f".{name}").read_text() if (folder / f".{name}").exists() else "" for name in ("out", "err")]
        return CompletedRun(process.exitcode, *texts, seconds=time.perf_counter() - start)
