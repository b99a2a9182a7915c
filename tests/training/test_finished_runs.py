"""Finished runs: how they are found in folders, read for a report, and compared by their settings."""

import json
from pathlib import Path

import numpy as np

from digitnet import report, train
from digitnet.data import mnist
from tests.conftest import Run


def write_arrays(path: Path) -> None:
    """Write 500 training images of MNIST as a file of arrays."""
    images, labels = (tensor[:500].numpy() for tensor in mnist.load_mnist("train"))
    np.savez(path, train_images=images, train_labels=labels)


def test_a_run_that_has_to_be_scored_and_whose_data_is_gone_is_reported_in_one_line(run: Run, tmp_path: Path) -> None:
    write_arrays(tmp_path / "own.npz")
    overrides = ("model=mlp", "data=arrays", f"data.root={tmp_path / 'own.npz'}", "data.batch_size=64")
    done = run(train, *overrides, "trainer.max_epochs=1", "trainer.logger=false", "test=false", "hydra.run.dir=out")
    assert done.status == 0, done.err
    assert "test/acc" not in json.loads((tmp_path / "out" / "metrics.json").read_text())
    scored = run(report, "out", "--test")
    assert scored.status == 0, scored.err
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    refused = run(report, "out", "--test")
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "out: has no test accuracy, and it cannot be computed: its data is not here" in refused.err
    assert run(report, "out").status == 0, "The validation accuracy is on file."
