"""A residual network: more layers than the CNN, each block of which learns a change of its input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from digitnet.errors import check_argument
from digitnet.models.classifier import DigitClassifier


class ResNet(DigitClassifier):
    """Residual network with pre-activation (He, Zhang, Ren and Sun, "Identity Mappings", 2016).

    A 5x5 convolution with stride 2 maps the image to 14x14 pixels. Residual blocks of two 3x3 convolutions follow, then
    normalization, ReLU and the output layer. The output layer sees all positions of the last block, because for
    centred digits the position of a stroke is informative.

    The defaults are the network and the recipe of `model=resnet`.

    Args:
        channels: Number of output channels of each block, at least 1. The first convolution has as many as the first
            block.
        stride: Stride of each block in pixels, at least 1.
        dropout: Probability of dropout before the output layer. In [0, 1).
        lr: Highest learning rate (see `DigitClassifier`).
        weight_decay: Weight decay of the optimizer (see `DigitClassifier`).
        **training: Other arguments of `DigitClassifier`.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48, 48, 96),
        stride: Sequence[int] = (1, 2, 1, 2),
        dropout: float = 0.0,
        lr: float = 8e-3,
        weight_decay: float = 1e-2,
        **training: Any,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, **training)
        positive = len(channels) > 0 and min(channels) >= 1
        check_argument(positive, "channels", channels, "a list of numbers of at least 1")
        fits = len(stride) == len(channels) and min(stride) >= 1
        check_argument(fits, "stride", stride, f"{len(channels)} numbers of at least 1, one for each of channels")
        check_argument(0 <= dropout < 1, "dropout", dropout, "at least 0 and below 1")

        width, side = channels[0], 14
        self.net = nn.Sequential(nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False))
        for out, step in zip(channels, stride, strict=True):
            self.net.append(ResidualBlock(width, out, step))
            width, side = out, (side - 1) // step + 1
        self.net.extend([nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()])
        if dropout:
            self.net.append(nn.Dropout(dropout))
        self.net.append(nn.Linear(width * side**2, self.num_classes))
        self.to(memory_format=torch.channels_last)  # as in the CNN


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalization and ReLU, whose result is added to the input.

    Where the shape changes, a 1x1 convolution of the normalized input takes the place of the input.

    Args:
        width: Number of input channels.
        out: Number of output channels.
        stride: Stride of the first convolution in pixels.
    """

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
        )
        same_shape = stride == 1 and width == out
        self.shortcut = None if same_shape else nn.Conv2d(width, out, 1, bias=False)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Return the features `[N, out, H / stride, W / stride]` of features `[N, width, H, W]`."""
        activated: Tensor = self.activation(features)
        residual: Tensor = self.residual(activated)
        if self.shortcut is None:
            return features + residual
        # The stride is taken here: on a CPU, the gradient of a strided 1x1 convolution of less than 8 channels writes
        # past its memory (torch 2.15, oneDNN, channels_last).
        shortcut: Tensor = self.shortcut(activated[:, :, :: self.stride, :: self.stride])
        return shortcut + residual
