"""The LightningModules that all networks extend: inputs, metrics, optimizers, schedules and checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from digitnet import CNN, MLP, DigitClassifier, MNISTDataModule, ResNet
from digitnet.data import DeterministicLoader, mnist
from digitnet.errors import UsageError
from digitnet.models import SCHEDULES, Calibration
from tests.conftest import quiet_trainer


@pytest.mark.parametrize("kind", [CNN, MLP])
def test_the_logits_do_not_depend_on_the_form_of_the_pixels(kind: type[DigitClassifier]) -> None:
    model = kind().eval()
    images = mnist.load_mnist("test")[0][:16]
    forms = [images, images.unsqueeze(1), images / 255, images.unsqueeze(1) / 255]
    logits = [model(form) for form in forms]
    assert logits[0].shape == (16, 10)
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert not torch.allclose(logits[0].exp().sum(dim=1), torch.ones(16)), "logits, not probabilities"


def test_predict_returns_probabilities(tmp_path: Path) -> None:
    (batch, *_) = quiet_trainer(tmp_path).predict(MLP(), MNISTDataModule())
    torch.testing.assert_close(batch.sum(dim=1), torch.ones(1000))


def test_metrics_are_means_over_all_images_each_counted_once(tmp_path: Path) -> None:
    """1,777 is not a multiple of the batch size, so a mean of batch means would differ."""
    model, data = MLP(), MNISTDataModule(val_size=1777)
    trainer = quiet_trainer(tmp_path)
    trainer.validate(model, data, verbose=False)
    val_metrics = {name: metric.item() for name, metric in trainer.callback_metrics.items()}
    trainer.test(model, data, verbose=False)
    for split, metrics in {"val": val_metrics, "test": trainer.callback_metrics}.items():
        images, labels = data.split(split)
        with torch.inference_mode():
            logits = model.eval()(images)
        assert float(metrics[f"{split}/acc"]) == (logits.argmax(1) == labels).sum().item() / len(labels)
        assert float(metrics[f"{split}/loss"]) == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)
    for digit in range(10):
        accuracy = (logits[labels == digit].argmax(1) == digit).double().mean().item()
        assert float(trainer.callback_metrics[f"test/acc/{digit}"]) == pytest.approx(accuracy, abs=1e-12)


def test_a_network_trains_with_a_plain_lightning_trainer(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(MLP(lr=3e-3), MNISTDataModule(train_size=10_000))
    assert trainer.callback_metrics["val/acc"] > 0.85


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_is_chosen_by_name_and_receives_its_arguments(
    name: Any, kind: type[torch.optim.Optimizer], tmp_path: Path
) -> None:
    model = MLP(optimizer=name, lr=0.02, weight_decay=0.03, momentum=0.8, schedule="constant", warmup_fraction=0)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, MNISTDataModule(train_size=256, val_size=0))
    (group,) = trainer.optimizers[0].param_groups
    assert type(trainer.optimizers[0]) is kind
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.03)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_rises_to_the_full_learning_rate_and_then_never_increases(name: Any) -> None:
    model = MLP(schedule=name, warmup_fraction=0.2)
    model.total_steps = 1000
    factors = [model.lr_factor(step) for step in range(1001)]
    assert factors[0] == pytest.approx(0.04)
    assert max(factors) == factors[200] == 1
    assert factors[:201] == sorted(factors[:201])
    assert factors[200:] == sorted(factors[200:], reverse=True)
    assert factors[-1] == pytest.approx(1 if name == "constant" else 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "limit_train_batches": 7},
        {"max_epochs": 3, "limit_train_batches": 0.5},
        {"max_epochs": 2, "accumulate_grad_batches": 3},
        {"max_steps": 5},
        {"max_steps": 5, "max_epochs": 1},
        {"max_steps": 500, "max_epochs": 1},
    ],
    ids=str,
)
def test_the_schedule_ends_at_the_last_training_step(arguments: dict[str, Any], tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, **arguments)
    model = MLP(warmup_fraction=0)
    trainer.fit(model, MNISTDataModule(train_size=2000, batch_size=100, val_size=0))
    assert model.total_steps == trainer.global_step
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("arguments", [{"schedule": "cosine"}, {"schedule": "constant"}], ids=str)
def test_endless_training_raises_an_error_if_the_schedule_or_its_warmup_needs_an_end(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=-1, max_time="00:00:00:01")
    with pytest.raises(UsageError, match=r"^max_epochs=-1: must be .* needs an end"):
        trainer.fit(MLP(**arguments), MNISTDataModule(train_size=100))


def test_endless_training_with_a_constant_learning_rate_is_possible(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=-1, max_time="00:00:00:01")
    trainer.fit(MLP(schedule="constant", warmup_fraction=0), MNISTDataModule(train_size=100, val_size=0))
    assert trainer.global_step > 0


def test_networks_in_other_dtypes_accept_uint8_images_and_return_float32_logits() -> None:
    images = mnist.load_mnist("test")[0][:16]
    for dtype in (torch.float64, torch.bfloat16):
        assert CNN().to(dtype)(images).dtype == torch.float32


def test_an_image_with_three_channels_raises_an_error() -> None:
    with pytest.raises(RuntimeError):
        CNN()(torch.zeros(5, 3, 28, 28))


def test_after_the_last_scheduled_step_the_learning_rate_stays_at_its_final_value() -> None:
    model = MLP()
    model.total_steps = 10
    assert model.lr_factor(10) == model.lr_factor(25) == 0


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("network", [CNN, MLP, ResNet])
def test_a_learning_rate_out_of_range_raises_an_error(network: type[DigitClassifier], value: float) -> None:
    with pytest.raises(ValueError, match=rf"^lr={value}: must be above 0$"):
        network(lr=value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"weight_decay": -1},
        {"momentum": 1},
        {"warmup_fraction": 1.5},
        {"label_smoothing": 1},
        {"dropout": 1.5},
        {"hidden": (128, 0)},
    ],
    ids=str,
)
def test_an_argument_out_of_range_raises_an_error_that_names_it(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(arguments))}=.*: must be"):
        MLP(**arguments)


@pytest.mark.parametrize(
    ("name", "values"), [("temperature", (0, 1)), ("temperature", (math.inf, 1)), ("energy_threshold", (1, math.nan))]
)
def test_a_calibration_out_of_range_raises_an_error(name: str, values: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.*: must be"):
        Calibration(*values)


def test_the_calibration_is_no_hyper_parameter_and_in_no_checkpoint_and_training_discards_it(tmp_path: Path) -> None:
    model = MLP(calibration=Calibration(1.5, 4.0))
    assert model.calibration == Calibration(1.5, 4.0)
    assert not {"calibration", "distillation"} & set(model.hparams)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, MNISTDataModule(train_size=256, val_size=0))
    assert model.calibration is None
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert MLP.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True).calibration is None


@pytest.mark.parametrize(
    "model",
    [
        CNN(channels=(4, 8), dropout=0.1, lr=0.02),
        MLP(hidden=(32,)),
        ResNet(channels=(4, 8), stride=(1, 2), dropout=0.1),
    ],
    ids=["CNN", "MLP", "ResNet"],
)
def test_a_checkpoint_contains_plain_data_only_and_restores_the_model_without_a_config(
    model: DigitClassifier, tmp_path: Path
) -> None:
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, MNISTDataModule(train_size=256, val_size=0))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert not [allowed for allowed in torch.serialization.get_safe_globals() if "digitnet" in str(allowed)]
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert content["digitnet_model"] == type(model).__name__
    again = type(model).load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert again.hparams == model.hparams
    images = mnist.load_mnist("test")[0][:16]
    assert torch.equal(again.eval()(images), model.eval()(images))


class Linear(DigitClassifier):
    """A custom network, as the README shows it."""

    def __init__(self, bias: bool = True, **training: Any) -> None:
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=bias))


def test_a_custom_network_can_be_trained(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(Linear(bias=False, lr=3e-3), MNISTDataModule(train_size=10_000))
    assert trainer.callback_metrics["val/acc"] > 0.8


def test_label_smoothing_changes_the_training_loss_only(tmp_path: Path) -> None:
    images, labels = mnist.load_mnist("train")
    loader = DeterministicLoader(images[:100], labels[:100].long(), 100)
    model = MLP(label_smoothing=0.2, lr=1e-9)
    model.net[-1].weight.data *= 20  # with nearly uniform probabilities, both losses are equal
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, loader, loader)
    logits = model(loader.images)
    smoothed, plain = (
        F.cross_entropy(logits, loader.labels, label_smoothing=smoothing).item() for smoothing in (0.2, 0.0)
    )
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(smoothed, abs=1e-4)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(plain, abs=1e-4)
    assert abs(smoothed - plain) > 1e-3
