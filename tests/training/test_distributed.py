"""Training and evaluation in two real processes, which score each test image exactly once."""

import json
from pathlib import Path

import pytest

from digitnet import evaluate
from tests.conftest import FAST, Run, spawn
from tests.faults.child import ForkServer

TWO_PROCESSES = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def test_a_run_of_two_processes_has_the_test_metrics_that_one_process_computes(run: Run, tmp_path: Path) -> None:
    options = ("trainer.limit_test_batches=1.0", "hydra.run.dir=out")
    result = spawn("digitnet.train", *FAST, *TWO_PROCESSES, *options, folder=tmp_path)
    assert result.status == 0, result.err
    assert result.out.count("epoch 1/2") == 1, "Only the first process may print."
    two_processes = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert_equal_metrics(two_processes, json.loads(run(evaluate, "model=out", "json_path=-").out))


@pytest.mark.slow
def test_evaluate_in_two_processes_gives_the_metrics_of_one_process(
    trained_run: Path, run: Run, tmp_path: Path
) -> None:
    result = spawn("digitnet.evaluate", *TWO_PROCESSES, "model=out", "json_path=two.json", folder=tmp_path)
    assert result.status == 0, result.err
    two_processes = json.loads((tmp_path / "two.json").read_text())
    assert_equal_metrics(two_processes, json.loads(run(evaluate, "model=out", "json_path=-").out))


def assert_equal_metrics(two_processes: dict[str, float], one_process: dict[str, float]) -> None:
    names = ["test/acc", *(f"test/acc/{digit}" for digit in range(10))]
    assert [two_processes[name] for name in names] == [one_process[name] for name in names]
    assert two_processes["test/loss"] == pytest.approx(one_process["test/loss"], abs=1e-6)


def test_a_sweep_in_two_processes_is_rejected(fork_server: ForkServer, tmp_path: Path) -> None:
    result = fork_server.run("train", "-m", *FAST, *TWO_PROCESSES, "seed=1,2", folder=tmp_path)
    assert result.status == 2
    assert "one process" in result.err
    assert {path.name for path in tmp_path.iterdir()} == {".out", ".err"}, (
        "Only the files with the output of the command may exist."
    )
