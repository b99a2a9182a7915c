"""The predictions of a run survive being written to a file."""

from pathlib import Path

import numpy as np
import pytest

from digitnet.analysis.predictions import load_predictions, make_predictions, save_predictions


@pytest.mark.parametrize("classes", [10, 300])
def test_labels_are_the_same_after_a_file_also_those_above_255(classes: int, tmp_path: Path) -> None:
    labels = np.arange(classes)
    images = np.zeros((classes, 28, 28), np.uint8)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    made = make_predictions(np.eye(classes, dtype=np.float32), labels, images)
    save_predictions(tmp_path / "predictions.npz", checkpoint, 1, {"val": made})
    loaded = load_predictions(tmp_path / "predictions.npz", checkpoint)["val"]
    assert np.array_equal(loaded.labels, labels)
    assert loaded.correct.all()
