"""The networks: their published sizes, and the range of their arguments."""

from typing import Any

import pytest
import torch
from torch import nn

from digitnet import CNN, MLP, ResNet
from digitnet.errors import UsageError

IMAGES = torch.zeros(3, 28, 28, dtype=torch.uint8)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_default_mlp_is_784_128_64_10() -> None:
    model = MLP()
    shapes = [tuple(layer.weight.shape) for layer in model.net if isinstance(layer, nn.Linear)]
    assert shapes == [(128, 784), (64, 128), (10, 64)]
    assert count(model) == 109_386


@pytest.mark.parametrize("hidden", [(), (300,), (300, 100), (64, 64, 64, 64)])
def test_the_mlp_accepts_any_number_and_width_of_hidden_layers(hidden: tuple[int, ...]) -> None:
    assert MLP(hidden=hidden)(IMAGES).shape == (3, 10)


def test_the_published_cnn_has_the_published_number_of_parameters() -> None:
    """32 and 64 filters of 3×3 and a dense layer of 128 units have 225,034 parameters in Keras."""
    model = CNN((32, 64), 3, stride=1, pool_size=2, padding="valid", norm="none", hidden=128, dropout=0.5)
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
def test_the_cnn_accepts_arguments_for_all_or_for_each_block(arguments: dict[str, Any]) -> None:
    assert CNN(**arguments)(IMAGES).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("channels", {"channels": ()}),
        ("channels", {"channels": (8, 0)}),
        ("kernel_size", {"kernel_size": (3, 3, 3)}),
        ("kernel_size", {"kernel_size": 0}),
        ("channels", {"channels": (4,) * 8}),
        ("channels", {"channels": (4,), "kernel_size": 29, "padding": "valid"}),
        ("norm", {"norm": "layer"}),
        ("padding", {"padding": "full"}),
        ("hidden", {"hidden": -1}),
        ("dropout", {"dropout": 1.5}),
        ("stride", {"stride": (1, 1, 1)}),
        ("pool_size", {"pool_size": 0}),
    ],
    ids=str,
)
def test_an_argument_out_of_range_raises_an_error_that_names_it(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.*: must be"):
        CNN(**arguments)


def test_the_default_resnet_has_nine_3x3_or_5x5_convolutions_and_230_thousand_parameters() -> None:
    model = ResNet()
    kernels = [layer.kernel_size[0] for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels.count(5) == 1
    assert kernels.count(3) == 8
    assert 225_000 < count(model) < 235_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": (8,), "stride": (1,)},
        {"channels": [4, 4, 4], "stride": [1, 1, 1]},
        {"channels": (4, 8, 8, 8, 8), "stride": (2, 2, 2, 2, 2)},
        {"channels": (4, 8), "stride": (1, 20)},
        {"dropout": 0.5},
    ],
    ids=str,
)
def test_the_resnet_accepts_any_number_of_blocks_and_any_stride(arguments: dict[str, Any]) -> None:
    assert ResNet(**arguments)(IMAGES).shape == (3, 10)


def test_a_block_of_the_resnet_whose_last_convolution_is_zero_returns_its_input() -> None:
    block = ResNet(channels=(4,), stride=(1,)).net[1]
    nn.init.zeros_(block.residual[-1].weight)
    features = torch.randn(2, 4, 14, 14)
    assert torch.equal(block(features), features)


def test_a_block_of_the_resnet_has_a_shortcut_convolution_only_where_the_shape_changes() -> None:
    blocks = ResNet(channels=(4, 4, 8, 8), stride=(1, 1, 1, 2)).net[1:5]
    assert [block.shortcut is not None for block in blocks] == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("channels", {"channels": (), "stride": ()}),
        ("channels", {"channels": (8, 0), "stride": (1, 1)}),
        ("stride", {"channels": (8, 8), "stride": (1,)}),
        ("stride", {"channels": (8,), "stride": (0,)}),
        ("dropout", {"dropout": 1.0}),
    ],
    ids=str,
)
def test_an_argument_of_the_resnet_out_of_range_raises_an_error_that_names_it(
    name: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.*: must be"):
        ResNet(**arguments)
