"""What every classifier shares: the contract of forward, honest figures, optimisers, schedules, plain checkpoints."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from digitnet import CNN, MLP, DigitClassifier, MNISTDataModule
from digitnet.data import DeterministicLoader, mnist
from digitnet.errors import UsageError
from digitnet.models.classifier import SCHEDULES
from tests.conftest import quiet_trainer


@pytest.mark.parametrize("kind", [CNN, MLP])
def test_forward_takes_every_form_of_the_same_pixels(kind: type[DigitClassifier]) -> None:
    model = kind().eval()
    images = mnist.load_mnist("test")[0][:16]
    forms = [images, images.unsqueeze(1), images / 255, images.unsqueeze(1) / 255]
    logits = [model(form) for form in forms]
    assert logits[0].shape == (16, 10)
    assert all(torch.equal(logits[0], other) for other in logits[1:])
    assert not torch.allclose(logits[0].exp().sum(dim=1), torch.ones(16)), "logits, not probabilities"


def test_predict_gives_probabilities(tmp_path: Path) -> None:
    (batch, *_) = quiet_trainer(tmp_path).predict(MLP(), MNISTDataModule())
    torch.testing.assert_close(batch.sum(dim=1), torch.ones(1000))


def test_the_figures_are_those_of_all_images_counted_once(tmp_path: Path) -> None:
    """10,000 is no multiple of most batch sizes: a mean of batch means would be off."""
    model, data = MLP(), MNISTDataModule(val_size=777)
    trainer = quiet_trainer(tmp_path)
    trainer.validate(model, data, verbose=False)
    validated = {name: figure.item() for name, figure in trainer.callback_metrics.items()}
    trainer.test(model, data, verbose=False)
    for part, figures in {"val": validated, "test": trainer.callback_metrics}.items():
        images, labels = data.split(part)
        with torch.inference_mode():
            logits = model.eval()(images)
        assert float(figures[f"{part}/acc"]) == (logits.argmax(1) == labels).sum().item() / len(labels)
        assert float(figures[f"{part}/loss"]) == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)
    of_sevens = (logits[labels == 7].argmax(1) == 7).double().mean().item()
    assert float(trainer.callback_metrics["test/acc/7"]) == pytest.approx(of_sevens, abs=1e-12)


def test_a_library_user_trains_with_a_plain_trainer(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(MLP(lr=3e-3), MNISTDataModule(train_size=10_000))
    assert trainer.callback_metrics["val/acc"] > 0.85


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_chosen_by_name(name: Any, kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    model = MLP(optimizer=name, lr=0.02, weight_decay=0.03, momentum=0.8, schedule="constant", warmup_fraction=0)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(model, MNISTDataModule(train_size=256, val_size=0))
    (group,) = trainer.optimizers[0].param_groups
    assert type(trainer.optimizers[0]) is kind
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.03)
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.8


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_rises_to_one_and_never_above(name: Any) -> None:
    model = MLP(schedule=name, warmup_fraction=0.2)
    model.total_steps = 1000
    rates = [model.lr_factor(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[200] == 1
    assert rates[:201] == sorted(rates[:201])
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == pytest.approx(1 if name == "constant" else 0)


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
def test_the_schedule_ends_where_training_ends(arguments: dict[str, Any], tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, **arguments)
    model = MLP(warmup_fraction=0)
    trainer.fit(model, MNISTDataModule(train_size=2000, batch_size=100, val_size=0))
    assert model.total_steps == trainer.global_step
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_schedule_without_an_end_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=-1, max_time="00:00:00:01")
    with pytest.raises(UsageError, match="needs an end"):
        trainer.fit(MLP(schedule="cosine"), MNISTDataModule(train_size=100))


def test_a_double_or_half_network_takes_the_same_pixels() -> None:
    images = mnist.load_mnist("test")[0][:16]
    for dtype in (torch.float64, torch.bfloat16):
        assert CNN().to(dtype)(images).dtype == torch.float32


def test_an_image_of_another_form_is_refused() -> None:
    with pytest.raises(RuntimeError):
        CNN()(torch.zeros(5, 3, 28, 28))


def test_past_its_plan_the_rate_stays_at_the_end() -> None:
    model = MLP()
    model.total_steps = 10
    assert model.lr_factor(10) == model.lr_factor(25) == 0


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.lr="):
        MLP(lr=value)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("optimizer.name", {"optimizer": "lion"}),
        ("schedule.name", {"schedule": "step"}),
        ("optimizer.weight_decay", {"weight_decay": -1}),
        ("optimizer.momentum", {"momentum": 1}),
        ("schedule.warmup_fraction", {"warmup_fraction": 1.5}),
        ("model.dropout", {"dropout": 1.5}),
        ("model.hidden", {"hidden": (128, 0)}),
    ],
)
def test_other_arguments_out_of_range_are_refused_by_their_key(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=name):
        MLP(**arguments)


@pytest.mark.parametrize("model", [CNN(channels=(4, 8), dropout=0.1, lr=0.02), MLP(hidden=(32,))], ids=["CNN", "MLP"])
def test_a_checkpoint_is_plain_data_and_needs_no_config(model: DigitClassifier, tmp_path: Path) -> None:
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
    """A model of one's own, as the README shows it."""

    def __init__(self, bias: bool = True, **training: Any) -> None:
        super().__init__(**training)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=bias))


def test_a_model_of_ones_own_is_a_few_lines(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(Linear(bias=False, lr=3e-3), MNISTDataModule(train_size=10_000))
    assert trainer.callback_metrics["val/acc"] > 0.8


def test_smoothing_touches_the_training_loss_and_nothing_else(tmp_path: Path) -> None:
    images, labels = mnist.load_mnist("train")
    batches = DeterministicLoader(images[:100], labels[:100].long(), 100)
    model = MLP(label_smoothing=0.2, lr=1e-9)
    model.net[-1].weight.data *= 20  # a network without opinions loses the same either way
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, batches, batches)
    logits = model(batches.images)
    smoothed, plain = (F.cross_entropy(logits, batches.labels, label_smoothing=share).item() for share in (0.2, 0.0))
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(smoothed, abs=1e-4)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(plain, abs=1e-4)
    assert abs(smoothed - plain) > 1e-3
