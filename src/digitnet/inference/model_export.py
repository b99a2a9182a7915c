"""Export a model for other programs, once the exported file is known to predict the same as the model."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.checkpoints import pretrained
from digitnet.checkpoints.recorded_data import open_recorded_data
from digitnet.data import mnist
from digitnet.data.catalog import DIGITS
from digitnet.errors import RunError
from digitnet.models import DigitClassifier

PROBABILITY_ATOL = 1e-5
TIE_ATOL = 1e-6  # two classes this close are equal up to the rounding of float32, and either may come first
IMAGES_PER_BATCH = 500  # one batch of all images takes twice the time, half of it to allocate the memory


def format_metadata(suffix: str, model: DigitClassifier) -> dict[str, Any]:
    """Return the entries of the card that describe a file format.

    Args:
        suffix: ".onnx" or ".safetensors".
        model: The model.
    """
    if suffix == ".safetensors":
        return {"is": "weights, for digitnet.load(FILE) with this card beside it"}
    is_digits = model.class_names == DIGITS
    classes = "the digits 0 to 9" if is_digits else "the classes of the data set, in their order"
    return {
        "input": {"name": "pixels", "type": "uint8", "shape": ["N", 28, 28], "is": "bright ink on dark, 0 to 255"},
        "output": {
            "name": "probabilities",
            "type": "float32",
            "shape": ["N", model.num_classes],
            "is": f"of {classes}",
        },
    }


def export_model(model: DigitClassifier, path: Path, environment: dict[str, Any], data_root: Path | None = None) -> str:
    """Write a model as an .onnx or .safetensors file with a card beside it.

    The content of the file is loaded again and run on the test images before anything is written: on those of the data
    set that the model was trained on. Where these are not here, the images of MNIST take their place, and the card has
    no accuracy.

    Args:
        model: The model, in evaluation mode on the CPU.
        path: The file to write; its suffix selects the format.
        environment: Entries of the card about the versions and the machine.
        data_root: Folder of the data that the model was trained on; None looks where it was at the training.

    Returns:
        One line that summarises the export.

    Raises:
        UsageError: If the data is not in `data_root`.
        RunError: If the conversion fails or the file predicts anything else than the model. No file is written then.
    """
    data = open_recorded_data(model.dataset, data_root)
    images, labels = data.split("test") if data else mnist.load_mnist("test")
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in torch.split(images, IMAGES_PER_BATCH)])
    metrics: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    score = "not scored, because the data that it was trained on is not here"
    if data:
        metrics["test/acc"] = int((logits.argmax(dim=1) == labels).sum()) / len(labels)
        metrics["test/loss"] = F.cross_entropy(logits.double(), labels.long()).item()
        score = f"{metrics['test/acc']:.2%} of the test images{_source(model)} correct"
    metadata = pretrained.model_metadata(model) | format_metadata(path.suffix, model) | metrics | environment
    try:
        if path.suffix == ".onnx":
            content = to_onnx(model, metadata)
            predict = onnx_predictor(content)
        else:
            content = pretrained.serialize(model)
            predict = pretrained.deserialize(content, metadata).predict_step
        difference = check_parity(predict, images, logits.softmax(dim=1))
    except Exception as error:  # torch, onnx and onnxruntime have their own exception types
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RunError(f"{path}: not written, because the file would differ from the model ({reason})") from error
    card = pretrained.save_with_card(path, content, metadata | {"largest difference from PyTorch": difference})
    return f"{path}: {len(content):,} bytes, {score}; its card is {card}"


def _source(model: DigitClassifier) -> str:
    """Return " of NAME" for a model of another data set than MNIST."""
    return "" if model.dataset is None or model.dataset.name == "mnist" else f" of {model.dataset.name}"


def to_onnx(model: DigitClassifier, metadata: dict[str, Any]) -> bytes:
    """Convert a model to ONNX, from the preprocessing of the pixels to the softmax.

    Args:
        model: The model, on the CPU.
        metadata: Stored in the file, each value as a string.

    Returns:
        The content of the .onnx file: input `pixels` `[N, 28, 28]`, uint8; output `probabilities` `[N, C]`, float32.
    """
    import onnx

    pipeline = torch.nn.Sequential(model, torch.nn.Softmax(dim=1)).eval()
    pixels, batch_size = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.export.Dim("N")
    names: Any = {"input_names": ["pixels"], "output_names": ["probabilities"]}
    with warnings.catch_warnings():  # torch's exporter warns about deprecated calls of its own
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            pipeline, (pixels,), dynamic_shapes=({0: batch_size},), dynamo=True, verbose=False, **names
        )
    assert program is not None
    proto = program.model_proto
    graph = proto.graph
    for node in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        node.ClearField("metadata_props")  # the exporter's annotations contain paths of this machine
    onnx.helper.set_model_props(proto, {name: str(value) for name, value in metadata.items()})
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def onnx_predictor(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return a function that runs an ONNX model on images `[N, 28, 28]` and returns probabilities `[N, C]`."""
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.set_default_logger_severity(3)  # errors only: a machine without a GPU is not worth a warning
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(["probabilities"], {"pixels": pixels.numpy()})[0])


def check_parity(predict: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> float:
    """Compare the probabilities of an exported model with those of the original.

    Args:
        predict: The exported model: images `[N, 28, 28]` in, probabilities `[N, C]` out. It is called with all images
            and with a single one.
        images: Images `[N, 28, 28]`.
        expected: Probabilities `[N, C]` of the original model.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        ValueError: If a predicted class differs, or a probability by more than `PROBABILITY_ATOL`.
    """
    with torch.inference_mode():
        exported, single = predict(images), predict(images[:1])
    difference = max((exported - expected).abs().max().item(), (single - expected[:1]).abs().max().item())
    margin = expected.amax(dim=1, keepdim=True) - expected.gather(1, exported.argmax(dim=1, keepdim=True))
    mismatches = int((margin > TIE_ATOL).sum())
    if mismatches or not difference <= PROBABILITY_ATOL:  # "not <=" is also true for NaN
        raise ValueError(f"{mismatches} digits, and probabilities by up to {difference:.1g}, differ from PyTorch's")
    return difference
