"""An exported file is the model: other programs read every test image as PyTorch does, or there is no file."""

import json
import logging
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save

import digitnet
from digitnet import evaluate, export, train
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.models import DigitClassifier
from tests.conftest import FAST, Run, spawn
from tests.faults.conftest import trials
from tests.faults.test_checkpoints import GADGETS, torch_saved

NAMES = ("cnn", "mlp")
VARIANTS = (
    digitnet.CNN(channels=[4, 8], norm="group", dropout=0.0),
    digitnet.CNN(channels=[4], kernel_size=4, stride=2, pool=1, padding="valid", norm="none", hidden=0),
    digitnet.MLP(hidden=[], dropout=0.5),
)


def exported(model: str | Path, path: Path) -> Path:
    export.task(Namespace(run=str(model), format=None, output=path))
    return path


@pytest.fixture(autouse=True)
def no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of Hydra's that ran in this process has left a handler, which writes to the output of that test."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With both models in both formats."""
    folder = tmp_path_factory.mktemp("exports")
    for name in NAMES:
        exported(name, folder / f"{name}.onnx")
        exported(name, folder / f"{name}.safetensors")
    return folder


def probabilities(model: DigitClassifier, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(images).softmax(dim=1)


def onnx_probabilities(path: Path, images: torch.Tensor, batch: int) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.cat([torch.from_numpy(session.run(None, {"pixels": part.numpy()})[0]) for part in images.split(batch)])


def test_a_real_process_leaves_one_file_and_its_card(tmp_path: Path) -> None:
    done = spawn("digitnet.export", "--run", "cnn", "--format", "onnx", "-o", "digits.onnx", folder=tmp_path)
    assert done.status == 0, done.err
    assert done.err == ""
    assert done.out.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"digits.onnx", "digits.onnx.json"}
    content = (tmp_path / "digits.onnx").read_bytes()
    assert len(content) < 300_000
    assert b".py" not in content, "it names files of this machine"


@pytest.mark.parametrize("batch", [1000, 10_000])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_reads_every_test_image_as_pytorch_does(name: str, batch: int, folder: Path) -> None:
    images, labels = mnist.load("test")
    expected, found = (
        probabilities(digitnet.load(name), images),
        onnx_probabilities(folder / f"{name}.onnx", images, batch),
    )
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))
    assert (found - expected).abs().max() <= 1e-5
    card = json.loads((folder / f"{name}.onnx.json").read_text())
    assert card["test/acc"] == (found.argmax(dim=1) == labels).sum().item() / 10_000
    assert card["test/acc"] == json.loads((pretrained.PRETRAINED_DIR / f"{name}.json").read_text())["test/acc"]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_may_have_any_size(name: str, folder: Path) -> None:
    images = mnist.load("test")[0][:14]
    by_seven = onnx_probabilities(folder / f"{name}.onnx", images, 7)
    alone = onnx_probabilities(folder / f"{name}.onnx", images, 1)
    assert by_seven.shape == (14, 10)
    assert by_seven.dtype == torch.float32
    torch.testing.assert_close(alone, by_seven, rtol=0, atol=1e-6)
    torch.testing.assert_close(alone.sum(dim=1), torch.ones(14))


def test_the_graph_says_what_goes_in_and_out(folder: Path) -> None:
    graph = onnx.load(folder / "cnn.onnx")
    (pixels,), (output,) = graph.graph.input, graph.graph.output
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert [dim.dim_param or dim.dim_value for dim in pixels.type.tensor_type.shape.dim] == ["N", 28, 28]
    assert (output.name, output.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata["model"] == "CNN"
    assert metadata["test/acc"] == str(json.loads((pretrained.PRETRAINED_DIR / "cnn.json").read_text())["test/acc"])


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_card_says_what_the_file_is(suffix: str, folder: Path) -> None:
    path = folder / f"mlp.{suffix}"
    card = json.loads(pretrained.card_path(path).read_text())
    assert card["model"] == "MLP"
    assert card["hyper_parameters"]["hidden"] == [128, 64]
    assert card["parameters"] == 109_386
    assert card["sha256"] == pretrained.sha256_hex(path.read_bytes())
    assert card["versions"]["digitnet"] == digitnet.__version__
    assert 0 <= card["largest difference from PyTorch"] <= 1e-5
    assert ("input" in card) == (suffix == "onnx")


@pytest.mark.parametrize("model", VARIANTS, ids=["group norm", "valid padding", "no hidden layer"])
def test_other_networks_go_out_as_well(model: DigitClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "PRETRAINED_DIR", tmp_path)
    path = tmp_path / "mine.safetensors"
    pretrained.save_with_card(path, pretrained.serialize(model), pretrained.model_metadata(model))
    images = mnist.load("test")[0][:100]
    found = onnx_probabilities(exported("mine", tmp_path / "mine.onnx"), images, 100)
    torch.testing.assert_close(found, probabilities(model, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_come_back_bit_for_bit(name: str, folder: Path) -> None:
    mine, shipped = digitnet.load(folder / f"{name}.safetensors"), digitnet.load(name)
    assert type(mine) is type(shipped)
    assert mine.calibration == shipped.calibration is not None
    assert all(torch.equal(weight, shipped.state_dict()[key]) for key, weight in mine.state_dict().items())


def test_a_run_of_ones_own_scores_the_same_from_its_export(run: Run, tmp_path: Path) -> None:
    assert run(train, *FAST, "hydra.run.dir=out").status == 0
    assert run(export, "--run", "out", "-o", "sub/mine.safetensors").status == 0
    one, other = (
        json.loads(run(evaluate, f"run={source}", "json=-").out) for source in ("out", "sub/mine.safetensors")
    )
    assert {name: one[name] for name in one if "acc" in name} == {name: other[name] for name in other if "acc" in name}
    assert one["test/loss"] == other["test/loss"]


def add_to_a_bias(model: DigitClassifier) -> None:
    model.net[-1].bias.data[3] += 1e-2


def spoil_a_weight(model: DigitClassifier) -> None:
    model.net[-1].weight.data[0, 0] = torch.nan


@pytest.fixture
def sabotage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[DigitClassifier], None]], None]:
    """What is exported is no longer the model."""

    def sabotage(change: Callable[[DigitClassifier], None]) -> None:
        def changing(original: Callable[..., bytes]) -> Callable[..., bytes]:
            def sabotaged(model: DigitClassifier, *others: Any) -> bytes:
                change(model)
                return original(model, *others)

            return sabotaged

        monkeypatch.setattr(export, "to_onnx", changing(export.to_onnx))
        monkeypatch.setattr(pretrained, "serialize", changing(pretrained.serialize))
        monkeypatch.setattr(pretrained, "is_finite", lambda tensors: True)

    return sabotage


@pytest.mark.parametrize("change", [add_to_a_bias, spoil_a_weight])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_another_model_is_not_written(change: Any, suffix: str, sabotage: Any, run: Run, tmp_path: Path) -> None:
    sabotage(change)
    done = run(export, "--run", "mlp", "-o", f"x.{suffix}")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "differ from PyTorch" in done.err
    assert list(tmp_path.iterdir()) == []


def test_without_the_comparison_it_is(sabotage: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(add_to_a_bias)
    monkeypatch.setattr(export, "compare", lambda *_: 0.0)
    assert run(export, "--run", "mlp", "-o", "x.safetensors").status == 0
    assert not torch.equal(digitnet.load(tmp_path / "x.safetensors").net[-1].bias, digitnet.load("mlp").net[-1].bias)


def cut(content: bytes) -> bytes:
    return content[:-1000]


def say_that_it_is_another(content: bytes) -> bytes:
    graph = onnx.load_from_string(content)
    graph.graph.output[0].name = "logits"
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize("change", [cut, say_that_it_is_another, lambda content: b""])
def test_a_file_that_does_not_run_is_not_written(
    change: Callable[[bytes], bytes], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    content = change((folder / "mlp.onnx").read_bytes())
    monkeypatch.setattr(export, "to_onnx", lambda *_: content)
    done = run(export, "--run", "mlp", "-o", "x.onnx")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "x.onnx: not written" in done.err
    assert list(tmp_path.iterdir()) == []


def test_two_digits_that_tie_to_a_rounding_may_come_in_either_order() -> None:
    images, expected = mnist.load("test")[0], torch.full((10_000, 10), 0.1)
    expected[:, 0] += 4e-7
    found = expected.flip(dims=[1])
    assert (found.argmax(dim=1) != expected.argmax(dim=1)).all()
    assert export.compare(lambda pixels: found[: len(pixels)], images, expected) < 1e-6


def test_one_digit_of_ten_thousand_is_too_many() -> None:
    images, expected = mnist.load("test")[0], torch.full((10_000, 10), 0.1)
    expected[:, 0] += 2e-6
    found = expected.clone()
    found[77, 1] += 4e-6
    assert export.compare(lambda pixels: expected[: len(pixels)], images, expected) == 0
    with pytest.raises(ValueError, match="1 digits"):
        export.compare(lambda pixels: found[: len(pixels)], images, expected)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ("-o x.onnx", "required: --run"),
        ("--run cnn", "required: -o"),
        ("--run cnn -o x.txt", "must end in .onnx or .safetensors"),
        ("--run cnn -o x", "must end in .onnx or .safetensors"),
        ("--run cnn -o x.onnx --format safetensors", "must end in .safetensors"),
        ("--run cnn -o x.onnx --format torchscript", "invalid choice"),
        ("--run cnn -o x.onnx --verbose", "unrecognized arguments: --verbose"),
        ("--run nothing -o x.onnx", "nothing: no checkpoint there"),
        ("--run cnn -o /proc/x.onnx", "--output=/proc: cannot write there"),
        ("--run here.ckpt -o x.safetensors", "not a whole checkpoint"),
        ("--run cnn -o there.onnx", "there.onnx exists"),
        ("--run cnn -o there.safetensors", "there.json exists"),
    ],
)
def test_wrong_input_gets_one_line(options: str, answer: str, run: Run, tmp_path: Path) -> None:
    before = {"here.ckpt": "no checkpoint", "there.onnx": "mine", "there.json": "mine"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    done = run(export, *options.split())
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("digitnet: error: ")
    assert answer in done.err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(package: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(pretrained, "load", lambda source: pytest.fail("it began to work"))
    done = run(export, "--run", "cnn", "-o", "x.onnx")
    assert done.status == 2
    assert package in done.err
    assert "pip install 'digitnet[export]'" in done.err
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, package, None)
    assert run(export, "--run", "mlp", "-o", "x.safetensors").status == 0, "which needs none"


@pytest.mark.parametrize("gadget", trials(GADGETS, fast=["os.system", "many neurons", "legacy tar"]))
def test_a_checkpoint_that_asks_for_code_is_refused(gadget: str, run: Run, tmp_path: Path) -> None:
    model = digitnet.CNN(channels=[4], hidden=0)
    good = {"digitnet_model": "CNN", "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    made = GADGETS[gadget](good)
    (tmp_path / "evil.ckpt").write_bytes(made if isinstance(made, bytes) else torch_saved(made))
    done = run(export, "--run", "evil.ckpt", "-o", "x.safetensors")
    assert done.status == 2, done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


def changed(path: Path, **entries: Any) -> bytes:
    """The weights with some of them replaced."""
    return save(load_file(path) | {name.replace("_", "."): weight for name, weight in entries.items()})


CARDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no text": lambda card: b"\xff\xfe",
    "no JSON": lambda card: b"{",
    "a list": lambda card: [card],
    "deep": lambda card: b"[" * 100_000,
    "large": lambda card: card | {"note": "x" * 2**20},
    "nothing said": lambda card: {},
    "a stranger": lambda card: card | {"model": "Transformer"},
    "no name": lambda card: card | {"model": ["MLP"]},
    "no parameters": lambda card: card | {"hyper_parameters": None},
    "another width": lambda card: card | {"hyper_parameters": {"hidden": [3]}},
    "many neurons": lambda card: card | {"hyper_parameters": {"hidden": [10**7, 10**7]}},
    "an unknown argument": lambda card: card | {"hyper_parameters": {"_target_": "os.system"}},
    "no number": lambda card: card | {"hyper_parameters": card["hyper_parameters"] | {"lr": float("nan")}},
    "another hash": lambda card: card | {"sha256": "0" * 64},
    "no hash": lambda card: card | {"sha256": None},
}
WEIGHTS: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda path: b"",
    "text": lambda path: b"hello, this is no model",
    "half": lambda path: path.read_bytes()[:200_000],
    "a huge header": lambda path: (2**62).to_bytes(8, "little") + path.read_bytes()[8:],
    "a pickle": lambda path: torch_saved({"x": 1}),
    "no weights": lambda path: save({}),
    "another shape": lambda path: changed(path, net_1_weight=torch.zeros(128, 783)),
    "one too many": lambda path: changed(path, net_9_weight=torch.zeros(1)),
    "no numbers": lambda path: changed(path, net_1_bias=torch.full((128,), torch.nan)),
    "too large numbers": lambda path: changed(path, net_1_bias=torch.full((128,), 1e300, dtype=torch.float64)),
}


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        digitnet.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("case", CARDS)
def test_weights_with_a_wrong_card_are_refused(case: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((folder / "mlp.safetensors").read_bytes())
    made = CARDS[case](json.loads((folder / "mlp.json").read_text()))
    (tmp_path / "x.json").write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    assert "x.safetensors: " in refused(tmp_path / "x.safetensors")


@pytest.mark.parametrize("case", WEIGHTS)
def test_wrong_weights_are_refused(case: str, folder: Path, tmp_path: Path) -> None:
    """Even if the card vouches for them, as a stranger's may."""
    content = WEIGHTS[case](folder / "mlp.safetensors")
    card = json.loads((folder / "mlp.json").read_text())
    pretrained.save_with_card(tmp_path / "x.safetensors", content, card)
    assert "SHA-256" not in refused(tmp_path / "x.safetensors")


def test_a_changed_byte_a_missing_card_and_a_file_too_large_are_refused(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((folder / "mlp.safetensors").read_bytes())
    content[-1000] ^= 1
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "x.json is missing" in refused(tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_bytes((folder / "mlp.json").read_bytes())
    assert "SHA-256" in refused(tmp_path / "x.safetensors")
    done = run(evaluate, "run=x.safetensors")
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    monkeypatch.setattr("digitnet.checkpoints.checkpoint_format.LIMIT", 1000)
    assert "more than 1000 bytes" in refused(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(
    number: int, status: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitnet.checkpoints.checkpoint_format.os.fsync", lambda handle: os.kill(os.getpid(), number))
    assert run(export, "--run", "mlp", "-o", "x.safetensors").status == status
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_gets_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("digitnet.checkpoints.checkpoint_format.os.fsync", full)
    done = run(export, "--run", "mlp", "-o", "x.safetensors")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_wait_for_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "digitnet.export", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--output FILE" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "hydra", "onnx", "onnxruntime", "numpy"}


@pytest.mark.slow
def test_the_benchmark_measures_sizes_and_seconds(tmp_path: Path) -> None:
    options = ["--models", "mlp", "--repeats", "1", "--threads", "1", "--output", tmp_path / "x.json"]
    command = [sys.executable, Path(__file__).parents[1] / "benchmarks" / "export.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "x.json").read_text())
    assert all(ratio > 0 for ratio in outcome["median_ratios"].values())
    assert all(np.array(list(outcome["bytes"].values())) > 100_000)
