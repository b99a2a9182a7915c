"""An exported ONNX file predicts the same as the model."""

import json
import logging
from argparse import Namespace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import digitnet
from digitnet import export
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.inference.model_export import check_parity
from digitnet.models import DigitClassifier

NAMES = ("cnn", "mlp")
VARIANTS = (
    digitnet.CNN(channels=[4, 8], norm="group", dropout=0.0),
    digitnet.CNN(channels=[4], kernel_size=4, stride=2, pool_size=1, padding="valid", norm="none", hidden=0),
    digitnet.MLP(hidden=[], dropout=0.5),
    digitnet.ResNet(channels=[4, 8], stride=[1, 2], dropout=0.5),
)


def export_to(path: Path, model: str) -> Path:
    export.command(Namespace(model=model, format=None, output=path, data_root=None))
    return path


@pytest.fixture(autouse=True)
def no_logging_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hydra command in this process has left a log handler, which writes to the closed output of its test."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both bundled models in the ONNX format."""
    folder = tmp_path_factory.mktemp("exports")
    for name in NAMES:
        export_to(folder / f"{name}.onnx", name)
    return folder


def onnx_probabilities(path: Path, images: torch.Tensor, batch: int) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.cat([torch.from_numpy(session.run(None, {"pixels": part.numpy()})[0]) for part in images.split(batch)])


def probabilities(model: DigitClassifier, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(images).softmax(dim=1)


@pytest.mark.parametrize("batch", [1000, 10_000])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_predicts_every_test_image_as_pytorch_does(name: str, batch: int, exports: Path) -> None:
    images, labels = mnist.load_mnist("test")
    expected, exported = (
        probabilities(digitnet.load(name), images),
        onnx_probabilities(exports / f"{name}.onnx", images, batch),
    )
    assert torch.equal(exported.argmax(dim=1), expected.argmax(dim=1))
    assert (exported - expected).abs().max() <= 1e-5
    card = json.loads((exports / f"{name}.onnx.json").read_text())
    assert card["test/acc"] == (exported.argmax(dim=1) == labels).sum().item() / 10_000
    assert card["test/acc"] == json.loads((pretrained.PRETRAINED_DIR / f"{name}.json").read_text())["test/acc"]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_may_have_any_size(name: str, exports: Path) -> None:
    images = mnist.load_mnist("test")[0][:14]
    by_seven = onnx_probabilities(exports / f"{name}.onnx", images, 7)
    single = onnx_probabilities(exports / f"{name}.onnx", images, 1)
    assert by_seven.shape == (14, 10)
    assert by_seven.dtype == torch.float32
    torch.testing.assert_close(single, by_seven, rtol=0, atol=1e-6)
    torch.testing.assert_close(single.sum(dim=1), torch.ones(14))


def test_the_graph_declares_its_input_output_and_metadata(exports: Path) -> None:
    graph = onnx.load(exports / "cnn.onnx")
    (pixels,), (output,) = graph.graph.input, graph.graph.output
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim] == ["N", 28, 28]
    assert (output.name, output.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata["model"] == "CNN"
    assert metadata["test/acc"] == str(json.loads((pretrained.PRETRAINED_DIR / "cnn.json").read_text())["test/acc"])


@pytest.mark.parametrize("model", VARIANTS, ids=["group norm", "valid padding", "no hidden layer", "residual blocks"])
def test_networks_with_other_layers_can_be_exported(model: DigitClassifier, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    pretrained.save_with_card(path, pretrained.serialize(model), pretrained.model_metadata(model))
    images = mnist.load_mnist("test")[0][:100]
    exported = onnx_probabilities(export_to(tmp_path / "mine.onnx", str(path)), images, 100)
    torch.testing.assert_close(exported, probabilities(model, images), rtol=0, atol=1e-5)


def test_classes_that_tie_up_to_rounding_may_come_in_either_order() -> None:
    images, expected = mnist.load_mnist("test")[0], torch.full((10_000, 10), 0.1)
    expected[:, 0] += 4e-7
    exported = expected.flip(dims=[1])
    assert (exported.argmax(dim=1) != expected.argmax(dim=1)).all()
    assert check_parity(lambda pixels: exported[: len(pixels)], images, expected) < 1e-6


def test_a_single_different_prediction_is_refused() -> None:
    images, expected = mnist.load_mnist("test")[0], torch.full((10_000, 10), 0.1)
    expected[:, 0] += 2e-6
    exported = expected.clone()
    exported[77, 1] += 4e-6
    assert check_parity(lambda pixels: expected[: len(pixels)], images, expected) == 0
    with pytest.raises(ValueError, match="1 digits"):
        check_parity(lambda pixels: exported[: len(pixels)], images, expected)
