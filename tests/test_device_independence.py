"""The hot path keeps every tensor on the device and never waits for it: checked on fake CUDA tensors, without a GPU.

A fake tensor has a device, a shape and a dtype, but no values. An operation on tensors of two devices raises an error,
and so does `.item()`, `.tolist()` or `bool()`. `NoTransfers` also refuses copies from one device to another.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from digitnet import CNN, MLP, Augmentation, Distillation, ResNet
from digitnet.data import DeterministicLoader, loader
from digitnet.models import DigitClassifier, Ensemble, EpochMetrics

GPU = torch.device("cuda:0")
AUGMENTATION = Augmentation(rotation=10, scale=0.1, shear=0.1, shift=1, elastic=0.5, cutout=4)
SYNCHRONIZATION = Exception  # fake tensors raise several types


class NoTransfers(TorchDispatchMode):
    """Raises an error if an operation has tensors on two devices, those with one element included."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            raise RuntimeError(f"{function} has tensors on two devices")
        return result


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Record the devices of generators, which cannot be created for CUDA without a driver, and replace them."""
    devices: list[torch.device] = []

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> "Generator":
            return super().__new__(cls)

        def __init__(self, device: Any = "cpu") -> None:
            self.requested = torch.device(device)
            devices.append(self.requested)

        @property
        def device(self) -> torch.device:
            return self.requested

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(loader, "_seed_device", lambda device, seed: devices.append(device))
    return devices


@pytest.fixture
def fake_gpu() -> Iterator[None]:
    with FakeTensorMode():
        yield


def on_gpu(model: DigitClassifier) -> DigitClassifier:
    """Replace the weights by fake ones on the GPU, with the same shapes and strides."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)
                    tensors[name] = nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake
    return model


@pytest.fixture
def models() -> dict[str, DigitClassifier]:
    """Return the networks, which are built before the fake mode starts."""
    return {"CNN": CNN(), "MLP": MLP(dropout=0.1), "ResNet": ResNet(), "teacher": CNN(channels=(4,))}


def batch() -> tuple[Tensor, Tensor]:
    images = torch.zeros(128, 28, 28, dtype=torch.uint8, device=GPU)
    return images, torch.zeros(128, dtype=torch.long, device=GPU)


def train_step(model: DigitClassifier) -> Tensor:
    """Do what a step does, but for the backward pass, which needs a CUDA driver; the gradients are zeros."""
    model.epoch_metrics.setdefault("train", EpochMetrics())
    model._trainer = SimpleNamespace(precision="32-true", gradient_clip_val=None)
    model.total_steps = 10
    configured: Any = model.configure_optimizers()
    loss = model.training_step(batch())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    configured["optimizer"].step()
    configured["lr_scheduler"]["scheduler"].step()
    return loss


@pytest.fixture
def step_of(models: dict[str, DigitClassifier], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Tensor]:
    """Return a function that trains a network for one step on the fake GPU."""
    for kind in {type(model) for model in models.values()}:  # Lightning's property refuses what is not a Trainer
        monkeypatch.setattr(kind, "trainer", property(lambda self: self._trainer), raising=False)
    return lambda name: train_step(on_gpu(models[name]))


@pytest.mark.parametrize("name", ["CNN", "MLP", "ResNet"])
def test_a_training_step_stays_on_the_device(name: str, step_of: Callable[[str], Tensor], fake_gpu: None) -> None:
    with NoTransfers():
        assert step_of(name).device == GPU


def wait_for_loss(loss: Tensor) -> Tensor:
    loss.item()
    return loss


def add_tensor_of_cpu(loss: Tensor) -> Tensor:
    return loss + torch.tensor(1.0)


def add_vector_of_cpu(loss: Tensor) -> Tensor:
    return loss + torch.zeros(3)


def copy_to_cpu(loss: Tensor) -> Tensor:
    return loss.detach().cpu()


def branch_on_loss(loss: Tensor) -> Tensor:
    return -loss if loss > 0 else loss


@pytest.mark.parametrize(
    "fault",
    [wait_for_loss, add_tensor_of_cpu, add_vector_of_cpu, copy_to_cpu, branch_on_loss],
    ids=lambda f: f.__name__,
)
def test_a_fault_in_a_training_step_is_found(
    fault: Callable[[Tensor], Tensor],
    step_of: Callable[[str], Tensor],
    monkeypatch: pytest.MonkeyPatch,
    fake_gpu: None,
) -> None:
    training_step = MLP.training_step
    monkeypatch.setattr(MLP, "training_step", lambda model, images: fault(training_step(model, images)))
    with NoTransfers(), pytest.raises(SYNCHRONIZATION):
        step_of("MLP")


def test_the_loader_takes_and_augments_batches_on_the_device(generators: list[torch.device], fake_gpu: None) -> None:
    images = torch.zeros(300, 28, 28, dtype=torch.uint8, device=GPU)
    labels = torch.zeros(300, dtype=torch.long, device=GPU)
    batches = iter(DeterministicLoader(images, labels, 128, shuffle_seed=1, augmentation=AUGMENTATION))
    next(batches)  # the permutation is drawn on the CPU, so that it is the same on each device, and moved once an epoch
    generators.clear()
    with NoTransfers():
        augmented, chosen = next(batches)
    assert augmented.device == chosen.device == GPU
    assert generators == [GPU, GPU], "augmentation and dropout draw on the device"


def test_a_permutation_on_the_cpu_is_found(
    generators: list[torch.device], monkeypatch: pytest.MonkeyPatch, fake_gpu: None
) -> None:
    monkeypatch.setattr(DeterministicLoader, "permutation", lambda self: torch.arange(len(self.images)))
    images = torch.zeros(300, 28, 28, dtype=torch.uint8, device=GPU)
    batches = iter(DeterministicLoader(images, images[:, 0, 0], 128, shuffle_seed=1))
    with NoTransfers(), pytest.raises(SYNCHRONIZATION):
        next(batches)


def test_a_grid_on_the_cpu_is_found(
    generators: list[torch.device], monkeypatch: pytest.MonkeyPatch, fake_gpu: None
) -> None:
    monkeypatch.setattr(Augmentation, "_sample_affine", lambda self, n, generator: torch.zeros(n, 2, 3))
    with NoTransfers(), pytest.raises(SYNCHRONIZATION):
        AUGMENTATION(torch.zeros(8, 28, 28, dtype=torch.uint8, device=GPU), seed=1)


def test_metrics_are_summed_on_the_device_with_one_transfer_of_the_batch_sizes(fake_gpu: None) -> None:
    metrics = EpochMetrics()
    with NoTransfers():
        for _ in range(3):
            metrics.add(torch.zeros((), device=GPU), torch.zeros(8, 10, device=GPU), torch.zeros(8, device=GPU))
    assert metrics.totals().device == GPU


def test_metrics_that_read_the_loss_of_each_batch_are_found(fake_gpu: None) -> None:
    with pytest.raises(SYNCHRONIZATION):
        torch.zeros((), device=GPU).tolist()


@pytest.mark.parametrize("tta_shift", [0, 1])
def test_an_ensemble_with_test_time_augmentation_stays_on_the_device(
    tta_shift: int, models: dict[str, DigitClassifier], fake_gpu: None
) -> None:
    ensemble = Ensemble([on_gpu(models["CNN"]), on_gpu(models["MLP"])], tta_shift).eval()
    with NoTransfers():
        assert ensemble.compute_logits(torch.zeros(8, 1, 28, 28, device=GPU)).device == GPU


def test_distillation_stays_on_the_device_and_moves_the_teacher_only_once(
    models: dict[str, DigitClassifier], monkeypatch: pytest.MonkeyPatch, fake_gpu: None
) -> None:
    teacher, moves = on_gpu(models["teacher"]).eval(), list[Any]()
    monkeypatch.setattr(teacher, "to", lambda device: moves.append(device))
    distillation = Distillation(teacher, temperature=2)
    images, _ = batch()
    with NoTransfers():
        for _ in range(3):
            loss = distillation(torch.zeros((), device=GPU), torch.zeros(128, 10, device=GPU), images)
    assert loss.device == GPU
    assert moves == [GPU]


def test_a_teacher_on_the_cpu_is_found(models: dict[str, DigitClassifier], fake_gpu: None) -> None:
    with NoTransfers(), pytest.raises(SYNCHRONIZATION):
        models["teacher"](torch.zeros(8, 28, 28, device=GPU))
