"""W&B and MLflow record a run. Both are optional packages, which `.ci/run` installs for these tests."""

import json
from pathlib import Path

import pytest

from tests.conftest import FAST, spawn

RUN = (*FAST, "hydra.run.dir=out", "plots=false")


def test_wandb_records_a_run_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs pip install wandb")
    done = spawn("digitnet.train", *RUN, "logger=wandb", "trainer.logger.offline=true", folder=tmp_path)
    assert done.status == 0, done.err
    (record,) = tmp_path.glob("out/wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    accuracy = json.loads((tmp_path / "out" / "metrics.json").read_text())["test/acc"]
    assert all(name.encode() in content for name in ("val/acc", "train/loss", "test/acc", f"{accuracy:.4f}"))
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


@pytest.mark.filterwarnings("ignore")  # MLflow reads its own database with deprecated calls
def test_mlflow_records_every_epoch_and_the_test(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs pip install mlflow")
    done = spawn("digitnet.train", *RUN, "logger=mlflow", folder=tmp_path)
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digitnet")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/acc"] == pytest.approx(metrics["test/acc"])
    assert len(client.get_metric_history(run.info.run_id, "val/acc")) == metrics["epochs"]
    assert run.data.params["optimizer"] == "adamw"
