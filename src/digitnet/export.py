"""Writes a trained model for other programs: `python -m digitnet.export --run DIR_OR_CKPT -o FILE.onnx`."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitnet.cli import argparse_app
from digitnet.errors import RunError, UsageError

# The parts that need torch are imported where they are used: `--help` does not wait for them.
if TYPE_CHECKING:
    from torch import Tensor

    from digitnet.models import DigitClassifier

TOLERANCE = 1e-5  # of a probability
TIE = 1e-6  # two digits this close are equal to float32's rounding, and either may come first
FORMATS: dict[str, dict[str, Any]] = {  # what their cards say
    "onnx": {
        "input": {"name": "pixels", "type": "uint8", "shape": ["N", 28, 28], "is": "bright ink on dark, 0 to 255"},
        "output": {"name": "probabilities", "type": "float32", "shape": ["N", 10], "is": "of the digits 0 to 9"},
    },
    "safetensors": {"is": "weights, for digitnet.load(FILE) with this card beside it"},
}


def main() -> None:
    parser = argparse_app.Parser(
        prog="digitnet-export",
        description="Writes a trained model as one file, with a card beside it: FILE.onnx and FILE.onnx.json, or "
        "FILE.safetensors and FILE.json. It is run on the 10,000 test images first, and must read every digit as "
        "PyTorch does, with probabilities within 1e-5. No file is written over.",
    )
    parser.add_argument("--run", required=True, help="a run folder (its best), a checkpoint; or cnn or mlp, as shipped")
    parser.add_argument("--format", choices=FORMATS, help="what the suffix of FILE says, if left out")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE")
    argparse_app.run(parser, task)


def task(options: Namespace) -> None:
    path = options.output
    check(path, options.format or path.suffix[1:])

    import torch
    import torch.nn.functional as F

    from digitnet.checkpoints import pretrained
    from digitnet.data import mnist
    from digitnet.training import recording

    model, (images, labels) = pretrained.load(options.run), mnist.load_mnist("test")
    with torch.inference_mode():  # all images at once take twice the time, and half of it goes into getting the memory
        logits = torch.cat([model(part) for part in torch.split(images, 500)])
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "test/acc": int((logits.argmax(dim=1) == labels).sum()) / len(labels),
        "test/loss": F.cross_entropy(logits.double(), labels.long()).item(),
    }
    facts = pretrained.model_metadata(model) | FORMATS[path.suffix[1:]] | figures | recording.surroundings()
    try:
        content = to_onnx(model, facts) if path.suffix == ".onnx" else pretrained.serialize(model)
        reader = open_onnx(content) if path.suffix == ".onnx" else pretrained.deserialize(content, facts).predict_step
        difference = compare(reader, images, logits.softmax(dim=1))
    except Exception as error:  # torch, onnx and onnxruntime have kinds of their own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RunError(f"{path}: not written, the file would not be the model ({reason})") from error
    card = pretrained.save_with_card(path, content, facts | {"largest difference from PyTorch": difference})
    print(f"{path}: {len(content):,} bytes, {figures['test/acc']:.2%} of the test images right; its card is {card}")


def check(path: Path, kind: str) -> None:
    """Raises UsageError if the file could not be made or written."""
    if kind not in FORMATS or path.suffix != f".{kind}":
        wanted = f".{kind}" if kind in FORMATS else " or ".join(f".{known}" for known in FORMATS)
        raise UsageError(f"--output={path}: must end in {wanted}")
    try:
        for package in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ():
            import_module(package)
    except ImportError as error:
        raise UsageError(f"ONNX needs a package more ({error}): pip install 'digitnet[export]'") from error

    from digitnet.checkpoints import checkpoint_format, pretrained

    for file in (path, pretrained.card_path(path)):
        if file.exists():
            raise UsageError(f"--output={path}: {file} exists; move it away, or choose another name")
    checkpoint_format.require_writable(path.parent, "--output")


def to_onnx(model: "DigitClassifier", facts: dict[str, Any]) -> bytes:
    """The pixels' preprocessing, the network and the softmax, with `facts` as metadata."""
    import onnx
    import torch

    whole = torch.nn.Sequential(model, torch.nn.Softmax(dim=1)).eval()
    pixels, count = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.export.Dim("N")
    names: Any = {"input_names": ["pixels"], "output_names": ["probabilities"]}
    with warnings.catch_warnings():  # of what torch's own exporter will have to do otherwise one day
        warnings.simplefilter("ignore")
        program = torch.onnx.export(whole, (pixels,), dynamic_shapes=({0: count},), dynamo=True, verbose=False, **names)
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("metadata_props")  # the exporter's notes name files of this machine
    onnx.helper.set_model_props(proto, {name: str(fact) for name, fact in facts.items()})
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def open_onnx(content: bytes) -> "Callable[[Tensor], Tensor]":
    import onnxruntime  # type: ignore[import-untyped]
    import torch

    onnxruntime.set_default_logger_severity(3)  # errors: that a machine has no GPU is none
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(["probabilities"], {"pixels": pixels.numpy()})[0])


def compare(reader: "Callable[[Tensor], Tensor]", images: "Tensor", expected: "Tensor") -> float:
    """The largest difference of a probability. Raises ValueError if it is too large, or a digit another."""
    import torch

    with torch.inference_mode():
        found, alone = reader(images), reader(images[:1])
    difference = max((found - expected).abs().max().item(), (alone - expected[:1]).abs().max().item())
    behind = expected.amax(dim=1, keepdim=True) - expected.gather(1, found.argmax(dim=1, keepdim=True))
    others = int((behind > TIE).sum())
    if others or not difference <= TOLERANCE:  # which what is no number is not
        raise ValueError(f"{others} digits, and probabilities by up to {difference:.1g}, differ from PyTorch's")
    return difference


if __name__ == "__main__":
    main()
