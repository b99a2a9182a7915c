"""Two processes that torchrun or srun starts at once share one run: its checks, its folder, its errors and its end."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CompletedRun
from tests.faults.child import TINY, FaultInjection, ForkServer, ReturnValue
from tests.faults.conftest import first_difference, run_state, without_curves
from tests.training.launchers import (
    Task,
    Variables,
    free_port,
    rendezvous,
    run_tasks,
    slurm_variables,
    start_tasks,
    torchrun_variables,
)

DDP = ("trainer.accelerator=cpu", "trainer.devices=2")
SHORT = (*TINY, *DDP, "trainer.max_epochs=1")
LAUNCHERS = pytest.mark.parametrize("variables", [slurm_variables, torchrun_variables], ids=["srun", "torchrun"])


def only_error(results: list[CompletedRun]) -> str:
    """Return the one line that the processes print to stderr together."""
    (line,) = [line for result in results for line in result.err.splitlines()]
    return line


@LAUNCHERS
def test_two_processes_train_resume_and_evaluate_in_one_folder(
    variables: Variables, fork_server: ForkServer, tmp_path: Path
) -> None:
    results = run_tasks(fork_server, variables, *SHORT, folder=tmp_path)
    assert [result.status for result in results] == [0, 0], results
    assert results[1].out == "", "The first process prints."
    assert results[0].out.count("epoch 1/1") == 1
    (run,) = tmp_path.glob("logs/cnn/*")
    assert run.name == "slurm-17" or run.name.startswith("20")
    assert (run / ".hydra/overrides.yaml").is_file()

    results = run_tasks(fork_server, variables, f"resume={run}", "trainer.max_epochs=2", folder=tmp_path)
    assert [result.status for result in results] == [0, 0], results
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 16

    options = (f"model={run}", *DDP, "json_path=two.json")
    results = run_tasks(fork_server, variables, *options, folder=tmp_path, command="evaluate")
    assert [result.status for result in results] == [0, 0], results
    two = json.loads((tmp_path / "two.json").read_text())
    assert fork_server.run("evaluate", f"model={run}", "json_path=one.json", folder=tmp_path).status == 0
    one = json.loads((tmp_path / "one.json").read_text())
    assert two["test/acc"] == one["test/acc"] == metrics["test/acc"]
