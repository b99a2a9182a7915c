"""With weight_averaging=ema the averaged weights and batch-norm statistics are validated, saved and tested."""

import json
from pathlib import Path

import torch

from digitnet import evaluate, train
from digitnet.checkpoints import checkpoint_format
from tests.conftest import SLIM, Run

SMALL = (
    *SLIM, "weight_averaging=ema", "weight_averaging.decay=0.9", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
    "data.train_size=2000", "data.val_size=500",
)  # fmt: skip


def test_weights_and_batch_norm_statistics_are_averaged(run: Run, tmp_path: Path) -> None:
    result = run(train, *SMALL, "hydra.run.dir=out")
    assert result.status == 0, result.err
    checkpoint = checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert not any(torch.equal(average[name], current[name]) for name in ("net.0.weight", "net.1.running_mean"))


def test_the_test_metrics_of_a_run_are_those_of_the_averaged_weights(run: Run, tmp_path: Path) -> None:
    assert run(train, *SMALL, "hydra.run.dir=out").status == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert json.loads(run(evaluate, "model=out", "json_path=-").out)["test/acc"] == metrics["test/acc"]


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(run: Run, tmp_path: Path) -> None:
    options = (*SMALL, "schedule.name=constant", "schedule.warmup_fraction=0")
    assert run(train, *options, "hydra.run.dir=reference").status == 0
    assert run(train, *options, "trainer.max_epochs=1", "hydra.run.dir=resumed").status == 0
    assert run(train, "resume=resumed", "trainer.max_epochs=2").status == 0
    reference, resumed = (
        checkpoint_format.load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        for name in ("reference", "resumed")
    )
    for kind in ("state_dict", "current_model_state"):
        assert all(torch.equal(reference[kind][name], resumed[kind][name]) for name in reference[kind])
