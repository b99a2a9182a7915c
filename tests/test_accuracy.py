"""Full training runs reach the accuracy that the README promises: `pytest -m slow`."""

import json
from pathlib import Path
from shutil import which

import pytest

from tests.conftest import spawn

MIN_ACCURACY = {"cnn": 0.994, "mlp": 0.988}
MAX_LOSS = 0.05


@pytest.mark.slow
@pytest.mark.parametrize("model", MIN_ACCURACY)
def test_a_run_with_the_default_configuration_reaches_the_promised_test_accuracy(model: str, tmp_path: Path) -> None:
    done = spawn("digitnet.train", f"model={model}", "hydra.run.dir=out", folder=tmp_path, limit=1200)
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test/acc"] >= MIN_ACCURACY[model]
    assert metrics["test/loss"] <= MAX_LOSS


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiling_the_network_leaves_the_test_accuracy_within_two_points(tmp_path: Path) -> None:
    accuracies = []
    for flag in ("true", "false"):
        done = spawn(
            "digitnet.train", "experiment=fast", f"compile={flag}", "data.train_size=6400", f"hydra.run.dir={flag}",
            folder=tmp_path, limit=600,
        )  # fmt: skip
        assert done.status == 0, done.err
        accuracies.append(json.loads((tmp_path / flag / "metrics.json").read_text())["test/acc"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)
