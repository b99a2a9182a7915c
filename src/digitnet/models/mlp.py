"""A multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from digitnet.errors import check_argument
from digitnet.models.classifier import DigitClassifier


class MLP(DigitClassifier):
    """Multi-layer perceptron with ReLU; by default 784-128-64-10, which has 109,386 parameters.

    The defaults are the network and the recipe of `model=mlp`.

    Args:
        hidden: Widths of the hidden layers, each at least 1. Without any, the model is a linear classifier.
        dropout: Probability of dropout after each hidden layer. In [0, 1).
        lr: Highest learning rate (see `DigitClassifier`).
        weight_decay: Weight decay of the optimizer (see `DigitClassifier`).
        **training: Other arguments of `DigitClassifier`.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        **training: Any,
    ) -> None:
        super().__init__(lr=lr, weight_decay=weight_decay, **training)
        check_argument(all(width >= 1 for width in hidden), "hidden", hidden, "a list of numbers of at least 1")
        check_argument(0 <= dropout < 1, "dropout", dropout, "at least 0 and below 1")
        self.net = nn.Sequential(nn.Flatten())
        for fan_in, fan_out in pairwise((784, *hidden)):
            self.net.extend([nn.Linear(fan_in, fan_out), nn.ReLU()])
            if dropout:
                self.net.append(nn.Dropout(dropout))
        self.net.append(nn.Linear((784, *hidden)[-1], self.num_classes))
