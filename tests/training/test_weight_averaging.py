"""With averaging=ema, what is validated, kept and tested is the average, batch-norm figures included."""

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


def test_weights_and_batch_norm_figures_are_averaged(run: Run, tmp_path: Path) -> None:
    result = run(train, *SMALL, "hydra.run.dir=out")
    assert result.status == 0, result.err
    checkpoint = checkpoint_format.load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert not any(torch.equal(average[name], current[name]) for name in ("net.0.weight", "net.1.running_mean"))


def test_the_test_figures_are_those_of_the_average(run: Run, tmp_path: Path) -> None:
    assert run(train, *SMALL, "hydra.run.dir=out").status == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert json.loads(run(evaluate, "model=out", "json_path=-").out)["test/acc"] == metrics["test/acc"]


def test_a_resumed_run_ends_where_one_that_never_stopped_does(run: Run, tmp_path: Path) -> None:
    plan = (*SMALL, "schedule.name=constant", "schedule.warmup_fraction=0")
    assert run(train, *plan, "hydra.run.dir=whole").status == 0
    assert run(train, *plan, "trainer.max_epochs=1", "hydra.run.dir=cut").status == 0
    assert run(train, "resume=cut", "trainer.max_epochs=2").status == 0
    whole, cut = (
        checkpoint_format.load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "cut")
    )
    for kind in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[kind][name], cut[kind][name]) for name in whole[kind])
