"""Which process of a run this is: the only module that reads the variables of torchrun, SLURM and Lightning's launcher.

The first rule that applies decides:

=========  =====================================================  ==================  ==================
Launcher   Recognized by                                          Rank                Number of processes
=========  =====================================================  ==================  ==================
torchrun   ``TORCHELASTIC_RUN_ID``                                ``RANK``            ``WORLD_SIZE``
SLURM      ``SLURM_STEP_ID`` and ``SLURM_NTASKS``, unless this    ``SLURM_PROCID``    ``SLURM_NTASKS``
           is an interactive shell
Lightning  ``LOCAL_RANK``                                         ``LOCAL_RANK``      ``WORLD_SIZE``
none                                                              0                   1
=========  =====================================================  ==================  ==================

torchrun comes first because it may run inside a SLURM job. srun sets ``SLURM_STEP_ID``; a batch script that starts a
command without srun starts one process, whatever ``SLURM_NTASKS`` is. An interactive shell, where a user may start
Lightning's launcher, is a job named ``bash`` or ``interactive`` with one task, with ``SLURM_PTY_PORT`` or with a
reserved number of the step. Lightning itself ignores SLURM in all jobs with these names, also in the tasks that srun
starts after salloc, each of which would train alone. Lightning's launcher starts processes on one machine only, and
sets ``LOCAL_RANK=0`` in the one that starts them.
"""

import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from digitnet.errors import UsageError

_FIRST_RESERVED_STEP = 0xFFFF_FFF0  # the numbers of the steps of batch scripts and interactive shells are larger
_SECONDS_TO_AGREE = 60
_SECONDS_FOR_THE_FIRST = 5  # in which the first process reports an error that all processes have
_SECONDS_FOR_THE_OTHERS = 2  # in which they find that error too: srun ends them as soon as the first one has ended


@dataclass(frozen=True)
class Process:
    """The place of a process among the processes of its run."""

    launcher: Literal["torchrun", "srun", "lightning", "none"]
    """The program that has started the process. Lightning starts processes after the checks of the first one."""
    rank: int
    """Index among all processes; 0 is the first process, which holds the lock, writes the records and prints."""
    world_size: int
    """Number of all processes that the launcher has started."""
    local_rank: int
    """Index among the processes of the machine; 0 is the first of its machine."""
    local_world_size: int
    """Number of processes on the machine."""

    @property
    def started_externally(self) -> bool:
        """Whether a launcher other than Lightning's has started all processes at once, each with the same command."""
        return self.launcher in ("torchrun", "srun")


def current_process(environment: Mapping[str, str] = os.environ) -> Process:
    """Return the place of this process among the processes of its run.

    Args:
        environment: The environment variables.

    Returns:
        The place, by the rule in the description of this module.
    """

    def number(name: str, default: int = 1) -> int:
        return int(environment.get(name, default))

    if "TORCHELASTIC_RUN_ID" in environment:
        size = number("WORLD_SIZE")
        return Process("torchrun", number("RANK"), size, number("LOCAL_RANK"), number("LOCAL_WORLD_SIZE", size))
    if "SLURM_STEP_ID" in environment and "SLURM_NTASKS" in environment and not _is_shell(environment):
        size = number("SLURM_NTASKS")
        per_node = -(-size // number("SLURM_STEP_NUM_NODES", number("SLURM_NNODES")))
        return Process("srun", number("SLURM_PROCID"), size, number("SLURM_LOCALID"), per_node)
    if "LOCAL_RANK" in environment:
        size, rank = number("WORLD_SIZE"), number("LOCAL_RANK")
        return Process("lightning", rank, size, rank, size)
    return Process("none", 0, 1, 0, 1)


def is_main_process() -> bool:
    """Return whether this is the first process of a run, which locks the run folder, writes the records and prints."""
    return current_process().rank == 0


def slurm_tasks_without_srun(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of tasks of a SLURM job whose batch script has started this process without srun, or 0.

    Args:
        environment: The environment variables.
    """
    tasks = int(environment.get("SLURM_NTASKS", 1))
    other = "SLURM_STEP_ID" in environment or current_process(environment).launcher != "none"
    return tasks if tasks > 1 and not other and not _has_name_of_shell(environment) else 0


def is_task_in_shell(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is a task, but not the first, of an srun that was typed in a shell that srun has started.

    The first of these tasks cannot be told from the shell.

    Args:
        environment: The environment variables.
    """
    return current_process(environment).launcher == "none" and environment.get("SLURM_PROCID", "0") != "0"


def _has_name_of_shell(environment: Mapping[str, str]) -> bool:
    return environment.get("SLURM_JOB_NAME") in ("bash", "interactive")


def _is_shell(environment: Mapping[str, str]) -> bool:
    is_reserved = int(environment["SLURM_STEP_ID"]) >= _FIRST_RESERVED_STEP
    is_alone = environment["SLURM_NTASKS"] == "1"
    return _has_name_of_shell(environment) and (is_alone or is_reserved or "SLURM_PTY_PORT" in environment)


def common_time(pattern: str) -> str:
    """Return a text that takes the place of the time in the name of a run folder, and is the same in all processes.

    Args:
        pattern: A pattern of `time.strftime`.

    Returns:
        In a SLURM job its number, such as `slurm-17`, `slurm-17_2` in a job array, or `slurm-17.1` in a further step
        of the job. With torchrun, the time of the first process.

    Raises:
        UsageError: If the processes cannot agree on a time.
    """
    if current_process().launcher == "torchrun":
        return time.strftime(pattern, time.localtime(_time_of_first_process()))
    job, step = os.environ.get("SLURM_JOB_ID", "0"), os.environ.get("SLURM_STEP_ID", "0")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return f"slurm-{job}" + (f".{step}" if step != "0" else "")


@functools.cache
def _time_of_first_process() -> float:
    """Exchange the time of the first process through the store of torchrun's agent."""
    try:
        return float(_exchange("time", str(time.time()), _SECONDS_TO_AGREE))
    except (OSError, ValueError) as error:
        raise UsageError("the processes cannot agree on a run folder; name one with hydra.run.dir=DIR") from error


def _exchange(name: str, value: str, seconds: float) -> str:
    """Return the value of torchrun's first process, or an empty text if it has set none within some seconds.

    Raises:
        OSError: If there is no store through which the processes could exchange it.
    """
    from torch._C._distributed_c10d import TCPStore  # torch takes seconds to import
    from torch.distributed import DistError

    key = f"digitnet/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    deadline = time.monotonic() + seconds
    try:
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            raise OSError("torchrun's agent serves no store")
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=seconds))
        if is_main_process():
            store.set(key, value)
        while not store.check([key]):
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.05)  # unlike store.wait, this can be interrupted by a signal
        return store.get(key).decode()
    except (KeyError, DistError) as error:
        raise OSError("torchrun's agent cannot be reached") from error


def reports_usage_errors() -> bool:
    """Return whether this process should report wrong input; call it only after wrong input was found.

    The processes of a run fail alike, so the first one reports the error. The others wait, because a launcher may end
    all processes as soon as one has ended. A process that still finds the first process at work after that has an
    error of its own, such as a missing file on its machine, and reports it.
    """
    process = current_process()
    if process.world_size == 1 or not process.started_externally:
        return True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # from the launcher, when the first process has ended
    first_has_failed = ""
    if process.launcher == "torchrun":
        with suppress(OSError):
            first_has_failed = _exchange("failed", "yes", _SECONDS_FOR_THE_FIRST)
    if process.rank == 0:
        if process.launcher != "torchrun":
            time.sleep(_SECONDS_FOR_THE_OTHERS)
        return True
    time.sleep(_SECONDS_FOR_THE_FIRST + _SECONDS_FOR_THE_OTHERS)
    return not first_has_failed if process.launcher == "torchrun" else _first_process_listens()


def _first_process_listens() -> bool:
    """Return whether the first process of a SLURM step waits for the others, at the address that Lightning uses."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    try:
        environment = SLURMEnvironment(auto_requeue=False)
        socket.create_connection((environment.main_address, environment.main_port), timeout=2).close()
    except (OSError, RuntimeError):
        return False
    return True
