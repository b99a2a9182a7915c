"""The defaults reach what the README says, trained for real: `pytest -m slow`."""

import json
from pathlib import Path
from shutil import which

import pytest

from tests.conftest import spawn

BARS = {"cnn": 0.994, "mlp": 0.988}


@pytest.mark.slow
@pytest.mark.parametrize("model", BARS)
def test_a_default_run_is_as_accurate_as_promised(model: str, tmp_path: Path) -> None:
    done = spawn("digitnet.train", f"model={model}", "hydra.run.dir=out", folder=tmp_path, limit=1200)
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test/acc"] >= BARS[model]
    assert metrics["test/loss"] <= 0.05


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_ends_with_the_figures_of_one_that_is_not(tmp_path: Path) -> None:
    figures = []
    for flag in ("true", "false"):
        done = spawn(
            "digitnet.train", "experiment=fast", f"compile={flag}", "data.train_size=6400", f"hydra.run.dir={flag}",
            folder=tmp_path, limit=600,
        )  # fmt: skip
        assert done.status == 0, done.err
        figures.append(json.loads((tmp_path / flag / "metrics.json").read_text())["test/acc"])
    assert figures[0] == pytest.approx(figures[1], abs=0.02)
