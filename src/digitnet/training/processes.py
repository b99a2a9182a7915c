"""Lets the processes of a run start together and end together: by a signal, and when one of them is lost."""

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies.launchers import subprocess_script
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.distributed_c10d import _get_default_store

from digitnet.distributed import current_process, is_task_in_shell, slurm_tasks_without_srun
from digitnet.errors import RunError, UsageError
from digitnet.signals import REPEAT_SECONDS, SIGNALS, ShutdownRequested, defer_signals

_SECONDS_TO_ANSWER = 3.0  # in which the others state why they end
_SECONDS_TO_END_ALONE = 15.0  # after which a run whose child process has died is ended
_LOST_CONNECTION = re.compile(r"gloo|nccl|connection|timed out|socket|broken pipe", re.IGNORECASE)


def cluster_environment(plugins: list[Any], strategy: Any) -> list[ClusterEnvironment]:
    """Return the cluster environment to add to the plugins of a Trainer.

    For the processes that srun has started, Lightning's requeueing of jobs is turned off: it saves a checkpoint of its
    own and exits with status 0. A process that a job has started without srun is one process, as outside a job. Nothing
    is added to a cluster environment that the config brings, or that Lightning finds by itself.

    Args:
        plugins: The plugins of the config.
        strategy: The strategy of the config: a name, an object or None.

    Raises:
        UsageError: If SLURM was asked for a number of tasks, but not for their number on each node.
    """
    launcher = current_process().launcher
    configured = [*plugins, getattr(strategy, "cluster_environment", None)]
    if launcher == "torchrun" or any(isinstance(plugin, ClusterEnvironment) for plugin in configured):
        return []
    if launcher == "srun":
        try:
            return [SLURMEnvironment(auto_requeue=False)]
        except RuntimeError as error:
            raise UsageError("SLURM was asked for --ntasks; ask for --nodes and --ntasks-per-node instead") from error
    return [LightningEnvironment()] if SLURMEnvironment.detect() else []


def require_matching_processes(trainer: L.Trainer) -> None:
    """Check that as many processes were started as a Trainer expects; otherwise they would wait, or train twice.

    Args:
        trainer: The Trainer of the run.

    Raises:
        UsageError: If the numbers differ, or the tasks of a SLURM job were not started by srun.
    """
    process, devices, nodes = current_process(), trainer.num_devices, trainer.num_nodes
    expected = devices * nodes
    settings = f"trainer.devices={devices} and trainer.num_nodes={nodes}"
    if process.started_externally:
        started, per_node = process.world_size, process.local_world_size
        if started != expected:
            raise UsageError(
                f"{process.launcher} has started {started} process{'es' * (started > 1)}, but {settings} need "
                f"{expected}; set trainer.devices={per_node} trainer.num_nodes={started // per_node}, or start "
                f"{expected}"
            )
        if (trainer.global_rank, trainer.world_size) != (process.rank, started):
            raise UsageError(
                f"{process.launcher} has started this process as number {process.rank} of {started}, but the strategy "
                f"of the Trainer takes it for number {trainer.global_rank} of {trainer.world_size}; use "
                "trainer.strategy=ddp"
            )
    elif nodes > 1:
        raise UsageError(
            f"trainer.num_nodes={nodes}: one process was started; start {devices} on each node with torchrun or srun"
        )
    elif tasks := slurm_tasks_without_srun():
        raise UsageError(
            f"the SLURM job has {tasks} tasks, but one process was started; put srun before the command, or ask for "
            "one task"
        )
    elif is_task_in_shell():
        raise UsageError(
            "srun has started this process in a shell that srun itself has started, where Lightning ignores SLURM; use "
            "sbatch, or salloc and then srun"
        )


@contextmanager
def run_together(trainer: L.Trainer, peer_timeout: float, run_dir: Path | None = None) -> Iterator[None]:
    """Let the processes of a Trainer end together inside the block; nothing is done for a single process.

    While a process waits for others in compiled code, no Python code can react to a signal. So a thread watches the
    signals: it ends a process that is waiting for the others to start, and any process at the second signal.

    Args:
        trainer: The Trainer that the block uses.
        peer_timeout: Seconds after which the processes give up on one that does not answer.
        run_dir: The run folder, for the error message.

    Yields:
        Nothing.

    Raises:
        RunError: If another process was lost, or has failed. Only one process raises it; the others exit.
    """
    if trainer.world_size == 1:
        yield
        return
    # Lightning's handler of SIGTERM starts a broadcast, which the other processes may not expect.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # Lightning's observer kills all processes with SIGKILL as soon as one has ended, so that none can report it.
    subprocess_script._launch_process_observer = lambda child_processes: None  # type: ignore[attr-defined]
    watcher = _Watcher(trainer)
    with watcher.watch(), _agree_on_failure(trainer, watcher, peer_timeout, run_dir):
        yield


class _Watcher(threading.Thread):
    """Ends this process on signals that Python code cannot handle in time, and when a child process has died.

    Args:
        trainer: The Trainer, whose launcher may have started child processes.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(daemon=True, name="digitnet-watcher")
        self.trainer = trainer
        self.has_left = False  # whether this process has met the others and left them again after a failure
        self.first_signal: float | None = None
        self.child_died: float | None = None
        self.receiver, self.sender = socket.socketpair()
        self.receiver.setblocking(False)
        self.sender.setblocking(False)

    @property
    def has_met(self) -> bool:
        """Whether all processes have started."""
        return dist.is_initialized() or self.has_left  # in this order, for the failure sets them in the other

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch inside the block. Python's signal handlers are called as well."""
        previous = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        self.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            self.sender.close()  # ends the thread

    def run(self) -> None:
        """Handle signals as they come, and look for dead child processes every half second."""
        while True:
            has_news = select.select([self.receiver], [], [], 0.5)[0]
            if has_news:
                numbers = self.receiver.recv(64)
                if not numbers:
                    self.receiver.close()
                    return
                for number in numbers:
                    self._on_signal(number)
            self._check_children()

    def _on_signal(self, number: int) -> None:
        if number not in SIGNALS:
            return
        now, self.first_signal = time.monotonic(), self.first_signal or time.monotonic()
        if not self.has_met:
            self._exit(128 + number, "stopped while it waited for the other processes to start", number)
        if now - self.first_signal > REPEAT_SECONDS:
            self._exit(128 + number, "ended at once by a second signal", number)

    def _check_children(self) -> None:
        """End this process if a child process has died, at once if it would wait for it, else after some seconds."""
        for rank, child in enumerate(self._children(), start=1):
            if child.poll():
                self.child_died = self.child_died or time.monotonic()
                if not self.has_met or time.monotonic() - self.child_died > _SECONDS_TO_END_ALONE:
                    self._exit(1, f"error: process {rank} has ended with status {child.returncode}", signal.SIGTERM)

    def _children(self) -> list[subprocess.Popen[bytes]]:
        return getattr(self.trainer.strategy.launcher, "procs", [])

    def _exit(self, status: int, message: str, signal_number: int) -> None:
        """End this process and its child processes, whatever they do."""
        for child in self._children():
            child.send_signal(signal_number)
        if current_process().rank == 0:
            os.write(2, f"digitnet: {message}\n".encode())
        os._exit(status)


@contextmanager
def _agree_on_failure(
    trainer: L.Trainer, watcher: _Watcher, peer_timeout: float, run_dir: Path | None
) -> Iterator[None]:
    """Find out together why a run has failed, and let one process report it."""
    rank, size = trainer.global_rank, trainer.world_size
    try:
        yield
    except ShutdownRequested as request:
        watcher.has_left = dist.is_initialized()
        _exchange_reasons(rank, size, f"signal {request.code}")
        raise
    except Exception as error:
        if not dist.is_initialized():
            raise _not_met(error, rank, size, peer_timeout) if _is_lost_connection(error) else error from error
        watcher.has_left = True
        with defer_signals():  # srun and torchrun terminate the processes that are left, before they could report it
            own_reason = "" if _is_lost_connection(error) else f"{type(error).__name__}: {error}"
            reasons = _exchange_reasons(rank, size, own_reason)
            if own_reason:
                _raise_own(error, rank)
            _raise_for_the_others(reasons, rank, size, peer_timeout, run_dir)


def _is_lost_connection(error: Exception) -> bool:
    """Return whether a collective operation has failed because of another process; gloo raises a plain RuntimeError."""
    if isinstance(error, RunError | UsageError):
        return False
    is_gloo_error = type(error) is RuntimeError and _LOST_CONNECTION.search(str(error)) is not None
    return isinstance(error, dist.DistError) or is_gloo_error


def _exchange_reasons(rank: int, size: int, reason: str) -> dict[int, str]:
    """State why this process ends, and return what the others state within some seconds, by rank.

    A process that is missing in the result has ended without a statement. So has the first process if its store is
    gone, and the store holds the statements.
    """
    reasons = {rank: reason}
    with suppress(dist.DistError, RuntimeError):
        store = PrefixStore("digitnet", _get_default_store())
        store.set_timeout(timedelta(seconds=_SECONDS_TO_ANSWER))
        store.set(str(rank), reason)
        if dist.get_backend() == "gloo":
            dist.destroy_process_group()  # closes the connections, so that the others fail as well
        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while len(reasons) < size and time.monotonic() < deadline:
            time.sleep(0.05)
            for other in set(range(size)) - set(reasons):
                if store.check([str(other)]):
                    reasons[other] = store.get(str(other)).decode()
        if rank == 0:
            time.sleep(0.5)  # the store may end with this process, and others may not have read it
    return reasons


def _raise_own(error: Exception, rank: int) -> None:
    """Raise the error of this process; the first process alone reports an expected one."""
    if rank and isinstance(error, RunError | UsageError | OSError):
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from error
    raise error


def _raise_for_the_others(
    reasons: dict[int, str], rank: int, size: int, peer_timeout: float, run_dir: Path | None
) -> None:
    """End this process after another one was lost or has failed: the first one that is left reports it."""
    stated = {other: reason for other, reason in reasons.items() if reason}
    if any(reason.startswith("signal ") for reason in stated.values()):
        raise SystemExit(next(int(r.split()[1]) for r in stated.values() if r.startswith("signal ")))
    if rank != min(reasons) or 0 in stated:
        raise SystemExit(1)
    resume = f"; resume={os.path.relpath(run_dir)} continues the run from its last checkpoint" if run_dir else ""
    if stated:
        other, reason = next(iter(stated.items()))
        raise RunError(f"process {other} of {size} has failed: {reason}{resume}")
    lost = sorted(set(range(size)) - set(reasons))
    names = f"process{'es' * (len(lost) > 1)} {', '.join(map(str, lost))} of {size}" if lost else "another process"
    raise RunError(f"{names} was lost: killed, out of memory, or no answer for {peer_timeout:g} s{resume}")


def _not_met(error: Exception, rank: int, size: int, peer_timeout: float) -> BaseException:
    """Return the error of a process that has waited in vain for the others to start."""
    if rank and not isinstance(error, dist.DistNetworkError):
        return SystemExit(1)  # the first process has waited as well, and reports it
    return RunError(
        f"not all {size} processes have met within {peer_timeout:g} s ({str(error).splitlines()[0][:120]}); look at "
        "the output of the others, check that the first machine can be reached, or raise peer_timeout"
    )
