"""Two processes through the real command: the same test set, each image scored once."""

import json
from pathlib import Path

import pytest

from digitnet import evaluate
from tests.conftest import FAST, Run, spawn
from tests.faults.child import ForkServer

TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def test_two_processes_train_and_test_as_one_would(run: Run, tmp_path: Path) -> None:
    options = ("trainer.limit_test_batches=1.0", "hydra.run.dir=out")
    result = spawn("digitnet.train", *FAST, *TWO, *options, folder=tmp_path)
    assert result.status == 0, result.err
    assert result.out.count("epoch 1/2") == 1, "only the first process speaks"
    double = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert_the_same(double, json.loads(run(evaluate, "model=out", "json_path=-").out))


@pytest.mark.slow
def test_two_processes_evaluate_as_one_would(trained_run: Path, run: Run, tmp_path: Path) -> None:
    result = spawn("digitnet.evaluate", *TWO, "model=out", "json_path=two.json", folder=tmp_path)
    assert result.status == 0, result.err
    double = json.loads((tmp_path / "two.json").read_text())
    assert_the_same(double, json.loads(run(evaluate, "model=out", "json_path=-").out))


def assert_the_same(double: dict[str, float], single: dict[str, float]) -> None:
    figures = ["test/acc", *(f"test/acc/{digit}" for digit in range(10))]
    assert [double[name] for name in figures] == [single[name] for name in figures]
    assert double["test/loss"] == pytest.approx(single["test/loss"], abs=1e-6)


def test_a_sweep_over_processes_is_refused(fork_server: ForkServer, tmp_path: Path) -> None:
    result = fork_server.run("train", "-m", *FAST, *TWO, "seed=1,2", folder=tmp_path)
    assert result.status == 2
    assert "one process" in result.err
    assert {path.name for path in tmp_path.iterdir()} == {".out", ".err"}, "what the test itself catches"
