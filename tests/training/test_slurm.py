"""Lightning's own handling of SLURM jobs does not affect the metrics, the checkpoints or the exit status of a run."""

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest
import torch

from digitnet import MLP, MNISTDataModule, evaluate, train
from digitnet.checkpoints.checkpoint_format import load_checkpoint
from tests.conftest import FAST, Run, quiet_trainer
from tests.faults.child import FaultInjection, ForkServer, SendSignal
from tests.training.launchers import Task

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
def other_checkpoint(shared_trained_run: Path, tmp_path: Path) -> Path:
    """Return a checkpoint as Lightning writes it before a requeue: the same network with all weights set to zero."""
    checkpoint = torch.load(shared_trained_run / "checkpoints" / "last.ckpt", weights_only=True)
    for weight in checkpoint["state_dict"].values():
        weight.zero_()
    path = tmp_path / "hpc_ckpt_1.ckpt"
    torch.save(checkpoint, path)
    return path


def test_a_leftover_checkpoint_of_slurm_does_not_change_the_test_metrics(
    run: Run, trained_run: Path, other_checkpoint: Path
) -> None:
    expected = json.loads((trained_run / "metrics.json").read_text())
    shutil.copy(other_checkpoint, trained_run)
    result = run(train, "resume=out", "trainer.max_epochs=3", **SLURM_JOB)
    assert result.status == 0, result.err
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert metrics["steps"] == expected["steps"] * 3 // 2, "The run must have been extended by one epoch."
    (trained_run / "hpc_ckpt_1.ckpt").unlink()
    scored = json.loads(run(evaluate, "model=out", "trainer.limit_test_batches=2", "json_path=-").out)
    assert metrics["test/acc"] == scored["test/acc"]


@pytest.mark.usefixtures("other_checkpoint")  # in the current folder, where Lightning looks
def test_evaluate_beside_a_leftover_checkpoint_scores_the_best_checkpoint_in_a_slurm_job(
    run: Run, trained_run: Path
) -> None:
    options = (f"model={trained_run}", "trainer.limit_test_batches=2", "json_path=-")
    plain, slurm = (run(evaluate, *options, **variables) for variables in ({}, SLURM_JOB))
    assert slurm.status == 0, slurm.err
    assert json.loads(slurm.out)["test/acc"] == json.loads(plain.out)["test/acc"]


def test_without_a_separate_default_root_dir_lightning_scores_the_leftover_checkpoint(
    other_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SLURM_JOB.items():
        monkeypatch.setenv(name, value)
    model, data = MLP(lr=2e-3), MNISTDataModule()
    trainer = quiet_trainer(tmp_path, limit_test_batches=1)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        trainer.test(model, data, verbose=False, weights_only=True)
    assert not any(weight.any() for weight in model.parameters()), (
        "Lightning must have loaded the zeros of the leftover checkpoint."
    )


def test_sigusr1_saves_the_run_like_sigterm(fork_server: ForkServer, tmp_path: Path) -> None:
    fault = FaultInjection("digitnet.models.classifier:DigitClassifier.training_step", 3, SendSignal(signal.SIGUSR1))
    options = (*FAST, "test=false", "hydra.run.dir=out")
    process = fork_server.start("train", *options, folder=tmp_path, faults=[fault], environment=SLURM_JOB)
    stopped = Task(process, tmp_path, "").wait()
    assert stopped.status == 128 + signal.SIGUSR1, stopped.err
    assert "stopped at step 3; resume=out continues the run" in stopped.err
    assert load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")["global_step"] == 3
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_login_node_with_srun_prints_no_warning(fork_server: ForkServer, tmp_path: Path) -> None:
    stub = tmp_path / "bin" / "srun"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = {"PATH": f"{stub.parent}:{os.environ['PATH']}"}
    process = fork_server.start("train", *FAST, "test=false", "hydra.run.dir=out", folder=tmp_path, environment=path)
    result = Task(process, tmp_path, "").wait()
    assert result.status == 0, result.err
    assert "srun" not in result.out + result.err
