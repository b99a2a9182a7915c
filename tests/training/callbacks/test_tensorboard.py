"""The contents of the TensorBoard event files of a run."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from digitnet import CNN, MLP, MNISTDataModule, plots, train
from digitnet.training import run_dir
from digitnet.training.visualization import first_layer_filters
from tests.conftest import FAST, SLIM, Run, call, spawn

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
    """TensorBoard sorts charts by name: Lightning's chart of the epoch's number would be the first."""
    final = {f"whole_run/{split}_{metric}" for split in ("val", "test") for metric in ("acc", "loss")}
    curves = {"train/loss", "train/acc", "val/loss", "val/acc", "train/lr", "train/throughput"}
    by_class = {f"val_acc_by_class/{digit}" for digit in range(10)}
    tags = sorted(events.Tags()["scalars"])
    assert set(tags) == final | curves | by_class
    assert tags[:2] == ["train/acc", "train/loss"]


def test_lightnings_own_logger_has_a_chart_of_the_epoch(run: Run, tmp_path: Path) -> None:
    """The twin of the test above, without our logger."""
    target = "lightning.pytorch.loggers.TensorBoardLogger"
    logger = f"trainer.logger={{_target_: {target}, save_dir: out, name: '', version: ''}}"
    assert run(train, *FAST, logger, "test=false", "hydra.run.dir=out").status == 0
    assert "epoch" in EventAccumulator(str(tmp_path / "out")).Reload().Tags()["scalars"]


def test_the_accuracy_by_class_of_an_epoch_adds_up_to_its_accuracy(events: EventAccumulator) -> None:
    _, labels = MNISTDataModule(seed=1).split("val")
    counts = labels[:2000].bincount().tolist()
    points = [events.Scalars(f"val_acc_by_class/{digit}") for digit in range(10)]
    accuracy = events.Scalars("val/acc")
    assert [point.step for point in points[0]] == [point.step for point in accuracy]
    correct = sum(count * each[-1].value for count, each in zip(counts, points, strict=True))
    assert correct / sum(counts) == pytest.approx(accuracy[-1].value)


def test_the_learning_rate_is_logged_at_every_step(events: EventAccumulator) -> None:
    points = events.Scalars("train/lr")
    assert [point.step for point in points] == list(range(1, 11))
    assert max(point.value for point in points) > points[-1].value


def test_training_and_validation_share_a_chart(events: EventAccumulator) -> None:
    (content,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(content.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts == {
        "loss": ["^train/loss$", "^val/loss$"],
        "accuracy": ["^train/acc$", "^val/acc$"],
        "accuracy by class": ["^val_acc_by_class/"],
    }


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
    assert events.Scalars("whole_run/test_acc")[-1].value == pytest.approx(metrics["test/acc"])
    assert "hp_metric" not in events.Tags()["scalars"]


def test_the_graph_and_the_images_are_logged(events: EventAccumulator) -> None:
    assert events.Tags()["graph"]
    assert set(events.Tags()["images"]) == {"train/samples", "weights/first_layer", "val/confusion", "val/mistakes"}
    assert all(events.Images(tag)[0].width > 200 for tag in events.Tags()["images"])


def test_the_text_tab_has_the_command_the_config_and_the_layers(events: EventAccumulator) -> None:
    texts = {
        name: events.Tensors(f"run/{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("command", "config", "layers")
    }
    assert "digitnet.train model=mlp debug=fast" in texts["command"]
    assert "_target_: digitnet.models.MLP" in texts["config"]
    assert "Linear" in texts["layers"]


def test_the_precision_recall_curve_of_each_digit_is_logged(events: EventAccumulator) -> None:
    curves = [events.Tensors(f"val_precision_recall/{digit}") for digit in range(10)]
    assert all(len(points) == 1 for points in curves)
    true_positives = [make_ndarray(points[0].tensor_proto)[0] for points in curves]
    assert sum(int(counts[0]) for counts in true_positives) == 2000, "At threshold 0 every image counts as positive."


def test_the_projector_shows_validation_images_with_their_labels(shared_trained_run: Path) -> None:
    folder = shared_trained_run / "00000" / "validation"
    rows = [row.split("\t") for row in (folder / "metadata.tsv").read_text().splitlines()]
    assert rows[0] == ["actual", "predicted"]
    vectors = (folder / "tensors.tsv").read_text().splitlines()
    assert len(vectors) == len(rows) - 1 == 1000
    assert (folder / "sprite.png").is_file()
    assert (shared_trained_run / "projector_config.pbtxt").read_text().count("embeddings") == 1
    _, labels = MNISTDataModule(seed=1).split("val")
    assert [int(actual) for actual, _ in rows[1:]] == labels[:1000].tolist()


def test_histograms_are_logged_only_if_they_are_asked_for(run: Run, events: EventAccumulator, tmp_path: Path) -> None:
    assert not events.Tags()["histograms"]
    assert run(train, *FAST, "tensorboard.histograms=true", "test=false", "hydra.run.dir=out").status == 0
    accumulator = EventAccumulator(str(tmp_path / "out")).Reload()
    names = {
        f"{kind}/net.{layer}.{part}"
        for kind in ("weights", "weights_grad")
        for layer in (1, 3, 5)
        for part in ("weight", "bias")
    }
    assert set(accumulator.Tags()["histograms"]) == names


def test_the_first_layer_is_drawn_only_if_its_filters_are_images() -> None:
    pictures = [first_layer_filters(model) for model in (CNN(channels=(4,), pool_size=4), MLP())]
    assert all(picture is not None and picture.dim() == 3 and picture.max() == 1 for picture in pictures)
    assert first_layer_filters(torch.nn.Sequential(torch.nn.Linear(10, 10))) is None


def test_a_run_folder_has_plots_unless_they_are_turned_off(shared_trained_run: Path, tmp_path: Path) -> None:
    names = {"curves.png", "confusion.png", "mistakes.png", "samples.png"}
    assert {path.name for path in shared_trained_run.glob("*.png")} == names
    for name in names:
        with Image.open(shared_trained_run / name) as picture:
            assert min(picture.size) > 200
    assert spawn("digitnet.train", *FAST, "plots=false", "hydra.run.dir=out", folder=tmp_path).status == 0
    assert not list((tmp_path / "out").rglob("*.png"))


def test_the_confusion_matrix_agrees_with_the_validation_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrix must be computed in evaluation mode: after training, Lightning leaves the dropout active."""
    plotted: list[torch.Tensor] = []
    plot_confusion = plots.plot_confusion
    monkeypatch.setattr(
        plots, "plot_confusion", lambda confusion, names: plotted.append(confusion) or plot_confusion(confusion, names)
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
