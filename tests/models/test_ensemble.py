"""Ensembles and test-time augmentation."""

from typing import Any

import pytest
import torch

from digitnet import CNN, MLP
from digitnet.checkpoints import pretrained
from digitnet.data import mnist
from digitnet.errors import UsageError
from digitnet.models import DigitModule, Ensemble


def test_an_ensemble_averages_the_probabilities_of_its_members() -> None:
    members = [CNN().eval(), MLP().eval()]
    images = torch.rand(5, 1, 28, 28)
    expected = sum(member(images).softmax(dim=1) for member in members) / 2
    torch.testing.assert_close(Ensemble(members)(images).exp(), expected)


def test_ensembles_can_be_members_of_an_ensemble() -> None:
    members: list[DigitModule] = [CNN().eval(), MLP().eval()]
    images = torch.rand(5, 28, 28)
    nested = Ensemble([Ensemble(members[:1]), Ensemble(members[1:])])
    torch.testing.assert_close(nested(images), Ensemble(members)(images))
    assert nested.architecture == "CNN + MLP"


def test_each_shift_occurs_once_and_no_pixel_wraps_around(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 10, 0] = 1  # at the left edge
    image[..., 12, 12] = 1
    member, views = MLP(), list[torch.Tensor]()
    monkeypatch.setattr(member, "compute_logits", lambda pixels: views.append(pixels) or torch.zeros(1, 10))
    Ensemble([member], tta_shift=1).compute_logits(image)
    assert len(views) == len({tuple(view.flatten().tolist()) for view in views}) == 9
    assert any(torch.equal(view, image) for view in views)
    assert all(view[..., 20:].sum() == 0 for view in views)


def test_test_time_augmentation_makes_predictions_depend_less_on_the_position_of_the_digit() -> None:
    model = MLP().eval()
    images = mnist.load_mnist("test")[0][:256]

    def change(model: DigitModule) -> float:
        return (model(images).softmax(1) - model(images.roll(1, dims=-1)).softmax(1)).abs().mean().item()

    assert change(Ensemble([model], tta_shift=1)) < change(model)


def test_loading_an_ensemble_leaves_its_members_unchanged() -> None:
    images = mnist.load_mnist("test")[0][:16]
    ensemble = pretrained.load_ensemble("cnn", tta_shift=1)
    assert isinstance(ensemble, Ensemble)
    (member,) = ensemble.members
    assert torch.equal(member(images), pretrained.load("cnn")(images))
    assert not torch.equal(ensemble(images), member(images))


@pytest.mark.parametrize(("name", "arguments"), [("members", ([],)), ("tta_shift", ([MLP()], -1))])
def test_an_argument_out_of_range_raises_an_error_that_names_it(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.*: must be"):
        Ensemble(*arguments)
