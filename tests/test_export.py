"""The command `digitnet-export`: its arguments and files; no file is written unless it predicts as the model does."""

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
import pytest
import torch

import digitnet
from digitnet import evaluate, export, train
from digitnet.checkpoints import pretrained
from digitnet.inference import model_export
from digitnet.models import DigitClassifier
from tests.conftest import FAST, Run, spawn
from tests.faults.conftest import trials
from tests.faults.test_checkpoints import MALICIOUS_CHECKPOINTS, to_checkpoint_bytes

NAMES = ("cnn", "mlp")


def export_to(path: Path, model: str) -> Path:
    export.command(Namespace(model=model, format=None, output=path, data_root=None))
    return path


@pytest.fixture(autouse=True)
def no_logging_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hydra command in this process has left a log handler, which writes to the closed output of its test."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both bundled models in both formats."""
    folder = tmp_path_factory.mktemp("exports")
    for name in NAMES:
        export_to(folder / f"{name}.onnx", name)
        export_to(folder / f"{name}.safetensors", name)
    return folder


def test_the_command_writes_one_file_and_its_card(tmp_path: Path) -> None:
    done = spawn("digitnet.export", "--model", "cnn", "--format", "onnx", "-o", "digits.onnx", folder=tmp_path)
    assert done.status == 0, done.err
    assert done.err == ""
    assert done.out.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"digits.onnx", "digits.onnx.json"}
    content = (tmp_path / "digits.onnx").read_bytes()
    assert len(content) < 300_000
    assert b".py" not in content, "it contains paths of this machine"


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_the_card_describes_the_file(suffix: str, exports: Path) -> None:
    path = exports / f"mlp.{suffix}"
    card = json.loads(pretrained.card_path(path).read_text())
    assert card["model"] == "MLP"
    assert card["hyper_parameters"]["hidden"] == [128, 64]
    assert card["parameters"] == 109_386
    assert card["sha256"] == pretrained.sha256_hex(path.read_bytes())
    assert card["versions"]["digitnet"] == digitnet.__version__
    assert 0 <= card["largest difference from PyTorch"] <= 1e-5
    assert ("input" in card) == (suffix == "onnx")


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_safetensors_file_is_loaded_bit_for_bit(name: str, exports: Path) -> None:
    exported, bundled = digitnet.load(exports / f"{name}.safetensors"), digitnet.load(name)
    assert type(exported) is type(bundled)
    assert exported.calibration == bundled.calibration is not None
    assert all(torch.equal(weight, bundled.state_dict()[key]) for key, weight in exported.state_dict().items())


def test_a_run_scores_the_same_as_its_export(run: Run, tmp_path: Path) -> None:
    assert run(train, *FAST, "hydra.run.dir=out").status == 0
    assert run(export, "--model", "out", "-o", "sub/mine.safetensors").status == 0
    original, exported = (
        json.loads(run(evaluate, f"model={model}", "json_path=-").out) for model in ("out", "sub/mine.safetensors")
    )
    accuracies = [{key: scores[key] for key in scores if "acc" in key} for scores in (original, exported)]
    assert accuracies[0] == accuracies[1]
    assert original["test/loss"] == exported["test/loss"]


def shift_bias(model: DigitClassifier) -> None:
    model.net[-1].bias.data[3] += 1e-2


def set_weight_to_nan(model: DigitClassifier) -> None:
    model.net[-1].weight.data[0, 0] = torch.nan


@pytest.fixture
def fault_injection(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[DigitClassifier], None]], None]:
    """Change the model just before it is converted, so that the exported file differs from it."""

    def inject(change: Callable[[DigitClassifier], None]) -> None:
        def changing(original: Callable[..., bytes]) -> Callable[..., bytes]:
            def faulty(model: DigitClassifier, *others: Any) -> bytes:
                change(model)
                return original(model, *others)

            return faulty

        monkeypatch.setattr(model_export, "to_onnx", changing(model_export.to_onnx))
        monkeypatch.setattr(pretrained, "serialize", changing(pretrained.serialize))
        monkeypatch.setattr(pretrained, "is_finite", lambda tensors: True)

    return inject


@pytest.mark.parametrize("change", [shift_bias, set_weight_to_nan])
@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_file_that_predicts_otherwise_is_not_written(
    change: Any, suffix: str, fault_injection: Any, run: Run, tmp_path: Path
) -> None:
    fault_injection(change)
    done = run(export, "--model", "mlp", "-o", f"x.{suffix}")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "differ from PyTorch" in done.err
    assert list(tmp_path.iterdir()) == []


def test_it_would_be_written_without_the_parity_check(
    fault_injection: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_injection(shift_bias)
    monkeypatch.setattr(model_export, "check_parity", lambda *_: 0.0)
    assert run(export, "--model", "mlp", "-o", "x.safetensors").status == 0
    assert not torch.equal(digitnet.load(tmp_path / "x.safetensors").net[-1].bias, digitnet.load("mlp").net[-1].bias)


def truncate(content: bytes) -> bytes:
    return content[:-1000]


def rename_output(content: bytes) -> bytes:
    graph = onnx.load_from_string(content)
    graph.graph.output[0].name = "logits"
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize("change", [truncate, rename_output, lambda content: b""])
def test_a_file_that_cannot_be_run_is_not_written(
    change: Callable[[bytes], bytes], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: Path
) -> None:
    content = change((exports / "mlp.onnx").read_bytes())
    monkeypatch.setattr(model_export, "to_onnx", lambda *_: content)
    done = run(export, "--model", "mlp", "-o", "x.onnx")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "x.onnx: not written" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o x.onnx", "required: --model"),
        ("--model cnn", "required: -o"),
        ("--model cnn -o x.txt", "must end in .onnx or .safetensors"),
        ("--model cnn -o x", "must end in .onnx or .safetensors"),
        ("--model cnn -o x.onnx --format safetensors", "must end in .safetensors"),
        ("--model cnn -o x.onnx --format torchscript", "invalid choice"),
        ("--model cnn -o x.onnx --verbose", "--verbose: no such option"),
        ("--model nothing -o x.onnx", "nothing: no checkpoint there"),
        ("--model cnn -o /proc/x.onnx", "--output=/proc: cannot write there"),
        ("--model here.ckpt -o x.safetensors", "not an intact checkpoint"),
        ("--model cnn -o there.onnx", "there.onnx exists"),
        ("--model cnn -o there.safetensors", "there.json exists"),
        ("--run cnn -o x.onnx", "did you mean --model?"),
    ],
)
def test_wrong_input_is_reported_in_one_line_and_changes_nothing(
    options: str, message: str, run: Run, tmp_path: Path
) -> None:
    before = {"here.ckpt": "not a checkpoint", "there.onnx": "mine", "there.json": "mine"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    done = run(export, *options.split())
    assert done.status == 2
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("digitnet: error: ")
    assert message in done.err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    package: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(pretrained, "load", lambda model: pytest.fail("the export was started"))
    done = run(export, "--model", "cnn", "-o", "x.onnx")
    assert done.status == 2
    assert package in done.err
    assert "pip install 'digitnet[export]'" in done.err
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, package, None)
    assert run(export, "--model", "mlp", "-o", "x.safetensors").status == 0, "this format needs no other package"


@pytest.mark.parametrize("attack", trials(MALICIOUS_CHECKPOINTS, fast=["os.system", "many neurons", "legacy tar"]))
def test_a_checkpoint_that_would_execute_code_is_refused(attack: str, run: Run, tmp_path: Path) -> None:
    model = digitnet.CNN(channels=[4], hidden=0)
    good = {"digitnet_model": "CNN", "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    made = MALICIOUS_CHECKPOINTS[attack](good)
    (tmp_path / "evil.ckpt").write_bytes(made if isinstance(made, bytes) else to_checkpoint_bytes(made))
    done = run(export, "--model", "evil.ckpt", "-o", "x.safetensors")
    assert done.status == 2, done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_file(
    number: int, status: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitnet.checkpoints.atomic.os.fsync", lambda handle: os.kill(os.getpid(), number))
    assert run(export, "--model", "mlp", "-o", "x.safetensors").status == status
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("digitnet.checkpoints.atomic.os.fsync", full)
    done = run(export, "--model", "mlp", "-o", "x.safetensors")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_import_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "digitnet.export", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--output FILE" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "hydra", "onnx", "onnxruntime", "numpy"}


@pytest.mark.slow
def test_the_benchmark_measures_file_sizes_and_times(tmp_path: Path) -> None:
    options = ["--models", "mlp", "--repeats", "1", "--threads", "1", "--output", tmp_path / "x.json"]
    command = [sys.executable, Path(__file__).parents[1] / "benchmarks" / "export.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((tmp_path / "x.json").read_text())
    assert all(ratio > 0 for ratio in outcome["median_ratios"].values())
    assert all(np.array(list(outcome["bytes"].values())) > 100_000)
