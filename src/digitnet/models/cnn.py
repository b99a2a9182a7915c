"""A convolutional network."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from digitnet.errors import check_argument
from digitnet.models.classifier import DigitClassifier

Norm = Literal["batch", "group", "none"]


class CNN(DigitClassifier):
    """Blocks of convolution, max-pooling, normalisation and ReLU, then a dense layer, dropout and the logits.

    Pooling comes early because the norm and the ReLU then have a quarter of the work; before a ReLU alone it gives the
    same as after it.

    One number for `kernel_size`, `stride` or `pool` holds for every block; `pool=1` means none, `hidden=0` no dense
    layer. `padding="same"` pads by half a kernel, which keeps the size of the image at stride 1, `"valid"` by nothing.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        pool: int | Sequence[int] = 2,
        padding: Literal["same", "valid"] = "same",
        norm: Norm = "batch",
        hidden: int = 128,
        dropout: float = 0.5,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_argument(
            len(channels) > 0 and min(channels) >= 1, "model.channels", channels, "a list of numbers of at least 1"
        )
        check_argument(padding in ("same", "valid"), "model.padding", padding, "same or valid")
        check_argument(norm in ("batch", "group", "none"), "model.norm", norm, "batch, group or none")
        check_argument(hidden >= 0, "model.hidden", hidden, "0 or more")
        check_argument(0 <= dropout < 1, "model.dropout", dropout, "at least 0 and below 1")
        sizes = for_each_block("kernel_size", kernel_size, len(channels))
        strides = for_each_block("stride", stride, len(channels))
        pools = for_each_block("pool", pool, len(channels))

        self.net = nn.Sequential()
        width, side = 1, 28
        for out, size, step, window in zip(channels, sizes, strides, pools, strict=True):
            pad = size // 2 if padding == "same" else 0
            # Without a norm the convolution needs a bias; a norm brings its own.
            self.net.append(nn.Conv2d(width, out, size, step, pad, bias=norm == "none"))
            if window > 1:
                self.net.append(nn.MaxPool2d(window))
            if norm != "none":
                self.net.append(nn.BatchNorm2d(out) if norm == "batch" else nn.GroupNorm(1, out))
            self.net.append(nn.ReLU())
            width, side = out, ((side + 2 * pad - size) // step + 1) // window
            check_argument(
                side >= 1, "model.channels", channels, "fewer, or pooled or strided less: the image is used up"
            )
        self.net.append(nn.Flatten())
        width *= side**2
        if hidden:
            self.net.extend([nn.Linear(width, hidden), nn.ReLU()])
            width = hidden
        if dropout:
            self.net.append(nn.Dropout(dropout))
        self.net.append(nn.Linear(width, 10))
        self.to(memory_format=torch.channels_last)  # measured: a third less time on a CPU


def for_each_block(name: str, value: int | Sequence[int], blocks: int) -> tuple[int, ...]:
    values = (value,) * blocks if isinstance(value, int) else tuple(value)
    check_argument(
        len(values) == blocks, f"model.{name}", value, f"one number or {blocks}, one for each of model.channels"
    )
    check_argument(min(values) >= 1, f"model.{name}", value, "at least 1")
    return values
