"""Several networks and several views give one answer."""

import torch
from torch import nn

from digitnet import CNN, MLP
from digitnet.data import mnist
from digitnet.models import Ensemble


def test_it_gives_the_mean_of_the_probabilities() -> None:
    nets = [CNN().net.eval(), MLP().net.eval()]
    images = torch.rand(5, 1, 28, 28)
    expected = sum(net(images).softmax(dim=1) for net in nets) / 2
    torch.testing.assert_close(Ensemble(nets)(images).exp(), expected)


def test_every_shift_is_seen_once_and_nothing_wraps_around() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 10, 0] = 1  # at the left edge
    image[..., 12, 12] = 1
    views = list(Ensemble([nn.Identity()], shift=1).views(image))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 9
    assert any(torch.equal(view, image) for view in views)
    assert all(view[..., 20:].sum() == 0 for view in views)


def test_with_shifts_an_answer_depends_less_on_where_the_digit_is() -> None:
    net = MLP().net.eval()
    images = mnist.load_mnist("test")[0][:256].unsqueeze(1) / 255

    def change(model: nn.Module) -> float:
        return (model(images).softmax(1) - model(images.roll(1, dims=-1)).softmax(1)).abs().mean().item()

    assert change(Ensemble([net], shift=1)) < change(net)
