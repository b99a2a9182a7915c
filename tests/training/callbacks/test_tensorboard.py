"""The contents of the TensorBoard event files of a run."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from digitnet import plots, train
from digitnet.training import run_dir
from tests.conftest import SLIM, Run, call

HPARAMS = "_hparams_/session_start_info"


@pytest.fixture(scope="module")
def events(shared_trained_run: Path) -> EventAccumulator:
    """Return all events of a training run."""
    accumulator = EventAccumulator(str(shared_trained_run), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_the_curves_have_the_values_of_metrics_csv(events: EventAccumulator, shared_trained_run: Path) -> None:
    rows = run_dir.read_metrics_csv(shared_trained_run / "metrics.csv")
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc"):
        assert [point.value for point in events.Scalars(tag)] == pytest.approx([row[tag] for row in rows])
    steps = [[point.step for point in events.Scalars(tag)] for tag in ("train/loss", "val/loss")]
    assert steps[0] == steps[1], "The points of training and validation must have the same steps."


def test_no_scalars_are_logged_besides_the_curves_and_the_final_metrics(events: EventAccumulator) -> None:
    final = {f"final/{split}_{metric}" for split in ("val", "test") for metric in ("acc", "loss")}
    curves = {"train/loss", "train/acc", "val/loss", "val/acc", "lr", "epoch"}
    assert set(events.Tags()["scalars"]) == final | curves


def test_the_learning_rate_is_logged_at_every_step(events: EventAccumulator) -> None:
    points = events.Scalars("lr")
    assert [point.step for point in points] == list(range(1, 11))
    assert max(point.value for point in points) > points[-1].value


def test_training_and_validation_share_a_chart(events: EventAccumulator) -> None:
    (content,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(content.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts == {"loss": ["^train/loss$", "^val/loss$"], "accuracy": ["^train/acc$", "^val/acc$"]}


def test_the_hparams_tab_has_one_record_with_the_final_metrics(
    events: EventAccumulator, shared_trained_run: Path
) -> None:
    metadata = events.summary_metadata
    records = [tag for tag in metadata if tag == HPARAMS]
    assert len(records) == 1
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata[HPARAMS].plugin_data.content)
    values = content.session_start_info.hparams
    assert values["model"].string_value == "MLP"
    assert values["lr"].number_value == pytest.approx(2e-3)
    assert values["batch_size"].number_value == 256
    metrics = json.loads((shared_trained_run / "metrics.json").read_text())
    assert events.Scalars("final/test_acc")[-1].value == pytest.approx(metrics["test/acc"])
    assert "hp_metric" not in events.Tags()["scalars"]


def test_the_graph_and_the_images_are_logged(events: EventAccumulator) -> None:
    assert events.Tags()["graph"]
    assert set(events.Tags()["images"]) == {"train/images", "val/confusion", "val/mistakes"}
    assert all(events.Images(tag)[0].width > 200 for tag in events.Tags()["images"])


def test_the_confusion_matrix_agrees_with_the_validation_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrix must be computed in evaluation mode: after training, Lightning leaves the dropout active."""
    plotted: list[torch.Tensor] = []
    plot_confusion = plots.plot_confusion
    monkeypatch.setattr(
        plots, "plot_confusion", lambda confusion: plotted.append(confusion) or plot_confusion(confusion)
    )
    options = (
        "trainer.max_epochs=1",
        "data.train_size=2560",
        "data.val_size=500",
        "model.dropout=0.5",
        "test=false",
        "trainer.log_every_n_steps=1",
    )
    assert call(train, *SLIM, *options, "hydra.run.dir=out", folder=tmp_path, patch=monkeypatch) == 0
    accuracy = json.loads((tmp_path / "out" / "metrics.json").read_text())["val/acc"]
    assert plotted[0].trace() == round(500 * accuracy)


def test_logging_to_tensorboard_does_not_change_the_weights(run: Run, tmp_path: Path) -> None:
    options = (*SLIM, "debug=fast", "model.dropout=0.3", "test=false")
    run(train, *options, "hydra.run.dir=with")
    run(train, *options, "trainer.logger=false", "hydra.run.dir=without")
    checkpoints = [tmp_path / name / "checkpoints" / "last.ckpt" for name in ("with", "without")]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in checkpoints]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not list((tmp_path / "without").glob("*tfevents*"))
