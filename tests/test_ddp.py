"""Two processes through the real command: the same test set, each image scored once."""

import json
from pathlib import Path

import pytest

from digitnet import evaluate
from tests.conftest import FAST, Run, spawn

TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def test_two_processes_train_and_evaluate_as_one_would(run: Run, tmp_path: Path) -> None:
    options = ("trainer.limit_test_batches=1.0", "hydra.run.dir=out")
    done = spawn("digitnet.train", *FAST, *TWO, *options, folder=tmp_path, OMP_NUM_THREADS="1")
    assert done.status == 0, done.err
    assert done.out.count("epoch 1/2") == 1, "only the first process speaks"
    trained = json.loads((tmp_path / "out" / "metrics.json").read_text())
    single = json.loads(run(evaluate, "run=out", "json=-").out)
    assert trained["test/acc"] == single["test/acc"]
    assert [trained[f"test/acc/{d}"] for d in range(10)] == [single[f"test/acc/{d}"] for d in range(10)]
    assert trained["test/loss"] == pytest.approx(single["test/loss"], abs=1e-6)
    double = spawn("digitnet.evaluate", *TWO, "run=out", "json=two.json", folder=tmp_path, OMP_NUM_THREADS="1")
    assert double.status == 0, double.err
    again = json.loads((tmp_path / "two.json").read_text())
    assert again["test/acc"] == single["test/acc"]
    assert again["test/loss"] == pytest.approx(single["test/loss"], abs=1e-6)


def test_a_sweep_over_processes_is_refused(tmp_path: Path) -> None:
    done = spawn("digitnet.train", "-m", *FAST, *TWO, "seed=1,2", folder=tmp_path)
    assert done.status == 2
    assert "one process" in done.err
    assert not list(tmp_path.iterdir())
