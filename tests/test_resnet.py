"""Every command accepts `model=resnet` and the runs that it writes."""

import json
from pathlib import Path

import pytest
import torch

import digitnet
from digitnet import evaluate, export, predict, train
from digitnet.data import mnist
from tests.conftest import Run

SMALL = ("model=resnet", "debug=fast", "model.channels=[4,8]", "model.stride=[1,2]", "hydra.run.dir=out")


@pytest.fixture
def resnet_run(run: Run, tmp_path: Path) -> Path:
    done = run(train, *SMALL)
    assert done.status == 0, done.err
    return tmp_path / "out"


def test_a_run_of_the_resnet_is_evaluated_exported_and_used_for_prediction(
    resnet_run: Path, run: Run, tmp_path: Path
) -> None:
    assert json.loads((resnet_run / "metrics.json").read_text())["model"] == "ResNet"
    assert json.loads(run(evaluate, "model=out", "json_path=-").out)["model"] == "ResNet"
    assert run(predict, "--model", "out", "--test-samples", "4").status == 0
    images = mnist.load_mnist("test")[0][:64]
    with torch.inference_mode():
        expected = digitnet.load(resnet_run)(images)
    for name in ("digits.onnx", "digits.safetensors"):
        done = run(export, "--model", "out", "-o", name)
        assert done.status == 0, done.err
    with torch.inference_mode():
        assert torch.equal(digitnet.load(tmp_path / "digits.safetensors")(images), expected)


@pytest.mark.slow
def test_an_interrupted_run_of_the_resnet_continues_with_the_weights_of_an_uninterrupted_one(
    run: Run, tmp_path: Path
) -> None:
    options = (*SMALL[:-1], "schedule.name=constant", "schedule.warmup_fraction=0")
    assert run(train, *options, "hydra.run.dir=whole").status == 0
    assert run(train, *options, "hydra.run.dir=parts", "trainer.max_epochs=1").status == 0
    assert run(train, "resume=parts", "trainer.max_epochs=2").status == 0
    whole, parts = (
        digitnet.load(tmp_path / name / "checkpoints" / "last.ckpt").state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_a_resnet_can_be_the_teacher_of_an_mlp(resnet_run: Path, run: Run, tmp_path: Path) -> None:
    options = ("model=mlp", "debug=fast", "distillation=cnn", "distillation.teacher.model=out", "hydra.run.dir=student")
    done = run(train, *options)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "student" / "metrics.json").read_text())["model"] == "MLP"
