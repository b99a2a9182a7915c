"""What `resume=` accepts, and that it continues a run as if the run had never stopped."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from digitnet import train
from digitnet.checkpoints import pretrained
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from digitnet.training.run_dir import read_metrics_csv
from tests.conftest import Run

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_RUN = GOLDEN / "0.1.0-run"
# The run in GOLDEN_RUN, under today's names. It was stopped after 12 of 24 steps, in the second of three epochs.
SAME_RUN = (
    "model=cnn", "model.channels=[4]", "model.kernel_size=5", "model.stride=4", "model.pool_size=1",
    "model.dropout=0.5",
    "weight_averaging=ema", "weight_averaging.decay=0.9", "distillation=cnn", "distillation.alpha=0.5",
    "schedule.name=linear", "schedule.warmup_fraction=0.3", "trainer.max_epochs=3", "trainer.log_every_n_steps=1",
    "data.train_size=512", "data.val_size=500", "data.batch_size=64", "test=false",
)  # fmt: skip


def test_a_run_that_version_0_1_0_started_continues_under_the_new_names(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", GOLDEN / "pretrained")  # with the CNN that taught that run
    shutil.copytree(GOLDEN_RUN, tmp_path / "old")
    result = run(train, "resume=old")
    assert result.status == 0, result.err
    assert run(train, *SAME_RUN, "hydra.run.dir=new").status == 0
    old, new = (load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("old", "new"))
    for key, value in new["state_dict"].items():
        # Not torch.equal: the first 12 steps were computed on another machine, whose sums may round differently.
        torch.testing.assert_close(old["state_dict"][key], value, rtol=1e-3, atol=1e-4)
    records = [read_metrics_csv(tmp_path / name / "metrics.csv") for name in ("old", "new")]
    assert [record["train/loss"] for record in records[0]] == pytest.approx(
        [record["train/loss"] for record in records[1]], rel=1e-4
    )
    assert json.loads((tmp_path / "old" / "metrics.json").read_text())["steps"] == 24
