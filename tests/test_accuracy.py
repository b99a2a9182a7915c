"""The defaults reach what the README says, trained for real: `pytest -m slow`."""

import json
from pathlib import Path

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
