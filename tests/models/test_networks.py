"""The two networks: the published sizes, and every dial turns."""

from typing import Any

import pytest
import torch
from torch import nn

from digitnet import CNN, MLP
from digitnet.errors import UsageError

IMAGES = torch.zeros(3, 28, 28, dtype=torch.uint8)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_mlp_is_784_128_64_10() -> None:
    model = MLP()
    shapes = [tuple(layer.weight.shape) for layer in model.net if isinstance(layer, nn.Linear)]
    assert shapes == [(128, 784), (64, 128), (10, 64)]
    assert count(model) == 109_386


@pytest.mark.parametrize("hidden", [(), (300,), (300, 100), (64, 64, 64, 64)])
def test_the_widths_of_the_mlp_are_free(hidden: tuple[int, ...]) -> None:
    assert MLP(hidden=hidden)(IMAGES).shape == (3, 10)


def test_the_published_cnn_has_the_published_size() -> None:
    """32 and 64 filters of 3×3, Dense 128: 225,034 parameters in Keras."""
    model = CNN(channels=(32, 64), padding="valid", norm="none", hidden=128, dropout=0.5)
    assert count(model) == 225_034


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"channels": (8,)},
        {"channels": (4, 8, 16), "kernel_size": (5, 3, 1)},
        {"channels": (4, 8), "kernel_size": 4, "padding": "valid"},
        {"channels": (4, 8, 8), "stride": (2, 1, 1), "pool_size": (1, 2, 1)},
        {"norm": "group"},
        {"norm": "none"},
        {"hidden": 0, "dropout": 0.0},
        {"hidden": 32, "dropout": 0.9},
    ],
    ids=str,
)
def test_the_dials_of_the_cnn_are_free(arguments: dict[str, Any]) -> None:
    assert CNN(**arguments)(IMAGES).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("model.channels", {"channels": ()}),
        ("model.channels", {"channels": (8, 0)}),
        ("model.kernel_size", {"kernel_size": (3, 3, 3)}),
        ("model.kernel_size", {"kernel_size": 0}),
        ("model.channels", {"channels": (4,) * 6}),
        ("model.channels", {"channels": (4,), "kernel_size": 29, "padding": "valid"}),
        ("model.norm", {"norm": "layer"}),
        ("model.padding", {"padding": "full"}),
        ("model.hidden", {"hidden": -1}),
        ("model.dropout", {"dropout": 1.5}),
    ],
    ids=str,
)
def test_a_dial_out_of_range_is_refused_by_its_key(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=name):
        CNN(**arguments)
