"""The rule by which a process finds its place among the processes of its run."""

import re
from pathlib import Path

import pytest

from digitnet.distributed import Process, current_process, is_task_in_shell, slurm_tasks_without_srun

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip
BATCH = {"SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}
SRUN = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
SINGLE = {"SLURM_STEP_ID": "1", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0"}
PTY = {"SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "36563"}
FIRST = Process("none", 0, 1, 0, 1)

PLACES = {
    "no launcher": ({}, FIRST),
    "torchrun": (TORCHRUN, Process("torchrun", 3, 4, 1, 2)),
    "torchrun inside a SLURM job": (TORCHRUN | SRUN, Process("torchrun", 3, 4, 1, 2)),
    "srun": (SRUN, Process("srun", 3, 4, 1, 2)),
    "one task of a larger job": (BATCH | SINGLE | {"SLURM_LOCALID": "0"}, Process("srun", 0, 1, 0, 1)),
    "srun in a shell of salloc": (SRUN | {"SLURM_JOB_NAME": "interactive"}, Process("srun", 3, 4, 1, 2)),
    "srun of a shell script": (SRUN | {"SLURM_JOB_NAME": "bash"}, Process("srun", 3, 4, 1, 2)),
    "a shell of salloc in a step": (
        SRUN | {"SLURM_JOB_NAME": "interactive", "SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}, FIRST
    ),
    "a shell of srun": (SRUN | PTY | {"SLURM_PROCID": "0"}, FIRST),
    "a shell of srun with one task": (BATCH | SINGLE | {"SLURM_JOB_NAME": "bash"}, FIRST),
    "a batch script without srun": (BATCH, FIRST),
    "a job without tasks": ({"SLURM_JOB_ID": "5"}, FIRST),
    "a process started by Lightning": ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Process("lightning", 1, 2, 1, 2)),
    "the process that Lightning started others from": (
        {"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, Process("lightning", 0, 2, 0, 2)
    ),
    "Lightning's launcher inside a batch script": (
        BATCH | {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Process("lightning", 1, 2, 1, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("environment", "place"), PLACES.values(), ids=PLACES)
def test_a_process_finds_its_place_under_every_launcher(environment: dict[str, str], place: Process) -> None:
    assert current_process(environment) == place


@pytest.mark.parametrize(("environment", "tasks"), [(BATCH, 4), (SRUN, 0), (TORCHRUN | BATCH, 0), ({}, 0)])
def test_tasks_of_a_job_that_srun_has_not_started_are_noticed(environment: dict[str, str], tasks: int) -> None:
    assert slurm_tasks_without_srun(environment) == tasks


def test_a_further_task_in_a_shell_of_srun_is_noticed() -> None:
    assert is_task_in_shell(SRUN | PTY)
    assert not is_task_in_shell(SRUN | PTY | {"SLURM_PROCID": "0"})
    assert not is_task_in_shell(SRUN)


def test_only_one_module_reads_the_variables_of_the_launchers() -> None:
    source = Path(__file__).parents[1] / "src" / "digitnet"
    variables = re.compile(r"[\"'](?:\w*RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|SLURM_\w+|TORCHELASTIC_\w+|MASTER_\w+)[\"']")
    readers = {path.name for path in source.rglob("*.py") if variables.search(path.read_text())}
    assert readers == {"distributed.py"}
