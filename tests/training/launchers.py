"""Starts the processes of a run as torchrun and srun do: at once, each with the same command and its own variables."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from tests.conftest import CompletedRun
from tests.faults.child import FaultInjection, ForkServer

Variables = Callable[[int, int, int], dict[str, str]]
"""The variables of a process, from its rank, the number of processes and the port of the first one."""


def slurm_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the variables of a task that srun has started on one machine; see slurm-wlm 22.05."""
    return {
        "SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NNODES": "1",
        "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": str(size), "SLURM_NTASKS_PER_NODE": str(size),
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def torchrun_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the variables of a process that torchrun has started on one machine."""
    return {
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def two_node_variables(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the variables of the only process on one of several machines with torchrun."""
    return torchrun_variables(rank, size, port) | {
        "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": str(rank), "GROUP_WORLD_SIZE": str(size),
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def rendezvous(variables: Variables) -> Iterator[int]:
    """Yield the port at which the processes meet. torchrun's agent serves a store there."""
    if variables is slurm_variables:
        yield free_port()
        return
    store = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=60))
    yield store.port


@dataclass
class Task:
    """A process of a run."""

    process: Any
    folder: Path
    suffix: str

    def text(self, name: str) -> str:
        return (self.folder / f".{name}{self.suffix}").read_text()

    def wait(self, limit: float = 120) -> CompletedRun:
        """Wait for the end; raise TimeoutError if it does not come."""
        self.process.join(limit)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"rank {self.suffix} has not ended after {limit} s: {self.text('err')}")
        return CompletedRun(self.process.exitcode, self.text("out"), self.text("err"))

    def wait_for(self, path: str) -> None:
        """Wait until a file is there, which the process or another one writes."""
        for _ in range(1200):
            if list(self.folder.glob(path)):
                return
            assert self.process.exitcode is None, self.text("err")
            time.sleep(0.05)
        raise TimeoutError(path)


def start_tasks(
    fork_server: ForkServer,
    variables: Variables,
    *arguments: str,
    folder: Path,
    port: int,
    ranks: Sequence[int] = (0, 1),
    size: int = 2,
    command: str = "train",
    faults: Sequence[FaultInjection] = (),
    folders: Sequence[Path] = (),
) -> list[Task]:
    """Start the processes of some ranks."""
    tasks = []
    for rank in ranks:
        place = folders[rank] if folders else folder
        process = fork_server.start(
            command, *arguments, folder=place, faults=faults, environment=variables(rank, size, port), suffix=str(rank)
        )
        tasks.append(Task(process, place, str(rank)))
    return tasks


def run_tasks(
    fork_server: ForkServer, variables: Variables, *arguments: str, folder: Path, **options: Any
) -> list[CompletedRun]:
    """Run all processes to their end."""
    with rendezvous(variables) as port:
        tasks = start_tasks(fork_server, variables, *arguments, folder=folder, port=port, **options)
        return [task.wait() for task in tasks]
