"""What Lightning does by itself in a SLURM job, and that it does not reach the metrics of a run."""

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import lightning as L
import pytest
import torch

from digitnet import MLP, MNISTDataModule, evaluate, train
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from tests.conftest import FAST, Run, quiet_trainer, spawn

# The variables by which Lightning recognizes a SLURM job, here with one task.
SLURM_JOB = {
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_ID": "5",
    "SLURM_JOB_NAME": "train",
}


@pytest.fixture
def other_checkpoint(trained_once: Path, tmp_path: Path) -> Path:
    """A checkpoint like Lightning's own one before a requeue: of the same network, with other weights."""
    checkpoint = torch.load(trained_once / "checkpoints" / "last.ckpt", weights_only=True)
    for weight in checkpoint["state_dict"].values():
        weight.zero_()
    path = tmp_path / "hpc_ckpt_1.ckpt"
    torch.save(checkpoint, path)
    return path


def test_a_leftover_checkpoint_of_slurm_does_not_change_the_test_metrics(
    run: Run, trained: Path, other_checkpoint: Path
) -> None:
    expected = json.loads((trained / "metrics.json").read_text())
    shutil.copy(other_checkpoint, trained)
    done = run(train, "resume=out", "trainer.max_epochs=3", **SLURM_JOB)
    assert done.status == 0, done.err
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["steps"] == expected["steps"] * 3 // 2, "the run was extended by an epoch"
    (trained / "hpc_ckpt_1.ckpt").unlink()
    scored = json.loads(run(evaluate, "model=out", "trainer.limit_test_batches=2", "json_path=-").out)
    assert metrics["test/acc"] == scored["test/acc"]


def test_evaluate_in_a_run_folder_scores_the_best_checkpoint_in_a_slurm_job(
    trained: Path, other_checkpoint: Path
) -> None:
    shutil.copy(other_checkpoint, trained)
    plain, slurm = (
        spawn("digitnet.evaluate", "model=.", "json_path=-", folder=trained, **variables)
        for variables in ({}, SLURM_JOB)
    )
    assert slurm.status == 0, slurm.err
    assert json.loads(slurm.out)["test/acc"] == json.loads(plain.out)["test/acc"]


def test_without_the_directory_of_its_own_lightning_scores_the_leftover_checkpoint(
    other_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SLURM_JOB.items():
        monkeypatch.setenv(name, value)
    model, data = MLP(lr=2e-3), MNISTDataModule()
    trainer = quiet_trainer(tmp_path, limit_test_batches=1)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        trainer.test(model, data, verbose=False, weights_only=True)
    assert not any(weight.any() for weight in model.parameters()), "the zeros of the leftover checkpoint"


def test_sigusr1_saves_the_run_like_sigterm(trained_once: Path, tmp_path: Path) -> None:
    send = "trainer.callbacks=[{_target_: tests.training.test_slurm.SendUsr1}]"
    stopped = spawn(
        "digitnet.train", *FAST, "test=false", send, "hydra.run.dir=out", folder=tmp_path,
        PYTHONPATH=str(Path.cwd()), **SLURM_JOB,
    )  # fmt: skip
    assert stopped.status == 128 + signal.SIGUSR1, stopped.err
    assert "resume=out continues the run" in stopped.err
    assert load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert not list(tmp_path.rglob("hpc_ckpt*"))


class SendUsr1(L.Callback):
    """Sends SIGUSR1 to this process after the second step."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def test_a_login_node_with_srun_prints_no_warning(tmp_path: Path) -> None:
    stub = tmp_path / "bin" / "srun"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = f"{stub.parent}:{os.environ['PATH']}"
    done = spawn("digitnet.train", *FAST, "test=false", "hydra.run.dir=out", folder=tmp_path, PATH=path)
    assert done.status == 0, done.err
    assert "srun" not in done.out + done.err
