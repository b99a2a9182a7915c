"""Published MNIST classifiers: what each source states, and the layers by which `network_cost.py` counts the cost.

Dropout, activations and other layers without multiplications or parameters are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn


@dataclass(frozen=True)
class PublishedSystem:
    """A published classifier.

    Args:
        source: Address of the page that states the accuracy.
        net: The layers, for images `[N, 1, 28, 28]`.
        test_acc: Test accuracy as a fraction, a mean or a median over the runs.
        n: Number of runs; None if the source does not tell.
        epochs: Number of epochs; None if the source does not tell.
        train_images: Number of images in an epoch.
    """

    source: str
    net: nn.Module
    test_acc: float
    n: int | None = None
    epochs: int | None = None
    train_images: int = 60_000


class Residual(nn.Module):
    """The sum of a branch and of its input, or of a shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        result: Tensor = self.branch(x) + self.shortcut(x)
        return result


def mlp(*widths: int) -> nn.Module:
    """Return linear layers of these widths."""
    return nn.Sequential(nn.Flatten(), *(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)))


def cnn(*layers: nn.Module, features: Sequence[int]) -> nn.Module:
    """Return convolutional layers, followed by linear layers of these widths."""
    return nn.Sequential(*layers, mlp(*features))


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Module:
    """Return a convolution and batch normalization."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs))


def norm_residual(width: int) -> nn.Module:
    """Return the residual block of ttdoucet/mnist: normalization, then a convolution with a shortcut."""
    return nn.Sequential(nn.BatchNorm2d(width), Residual(nn.Conv2d(width, width, 3, padding=1)))


def preact_block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Return the basic block of a pre-activation residual network, with a 1x1 convolution where the shape changes."""
    branch = nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
    )
    return Residual(branch, None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False))


FAST = "https://github.com/tuomaso/train_mnist_fast"
FAST_NET = cnn(
    nn.Conv2d(1, 24, 5),
    nn.MaxPool2d(2),
    nn.Conv2d(24, 32, 3),
    nn.MaxPool2d(2),
    features=(800, 256, 10),
)
LECUN = "http://yann.lecun.com/exdb/mnist/"

SYSTEMS = {
    "pytorch_examples": PublishedSystem(
        source=FAST,  # which measured the example before changing it
        net=cnn(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), features=(9216, 128, 10)),
        test_acc=0.99185,
        n=2,
        epochs=14,
    ),
    "keras_example": PublishedSystem(
        source="https://keras.io/examples/vision/mnist_convnet/",
        net=cnn(nn.Conv2d(1, 32, 3), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), features=(1600, 10)),
        test_acc=0.9922,
        n=1,
        epochs=15,
        train_images=54_000,
    ),
    "train_mnist_fast_1": PublishedSystem(source=FAST, net=FAST_NET, test_acc=0.9904, n=30, epochs=1),
    "train_mnist_fast_2": PublishedSystem(source=FAST, net=FAST_NET, test_acc=0.99245, n=30, epochs=2),
    "deotte": PublishedSystem(
        source="https://github.com/cdeotte/MNIST-CNN-99.75",
        net=cnn(
            conv_norm(1, 32, 3),
            conv_norm(32, 32, 3),
            conv_norm(32, 32, 5, stride=2, padding=2),
            conv_norm(32, 64, 3),
            conv_norm(64, 64, 3),
            conv_norm(64, 64, 5, stride=2, padding=2),
            conv_norm(64, 128, 4),
            features=(128, 10),
        ),
        test_acc=0.99641,
        n=1500,
        epochs=30,
        train_images=48_000,
    ),
    "resnet_preact_20": PublishedSystem(
        source="https://github.com/hysts/pytorch_image_classification",
        net=cnn(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            *(preact_block(16, 16) for _ in range(3)),
            preact_block(16, 32, stride=2),
            *(preact_block(32, 32) for _ in range(2)),
            preact_block(32, 64, stride=2),
            *(preact_block(64, 64) for _ in range(2)),
            nn.BatchNorm2d(64),
            nn.AdaptiveAvgPool2d(1),
            features=(64, 10),
        ),
        test_acc=0.9975,
        n=3,
        epochs=100,
    ),
    "ttdoucet": PublishedSystem(
        source="https://github.com/ttdoucet/mnist",
        net=cnn(
            nn.Conv2d(1, 128, 5, padding=2),
            norm_residual(128),
            nn.MaxPool2d(2),
            norm_residual(128),
            conv_norm(128, 256, 3, padding=1),
            nn.MaxPool2d(2),
            norm_residual(256),
            conv_norm(256, 512, 3, padding=1),
            nn.MaxPool2d(2, ceil_mode=True),
            norm_residual(512),
            nn.AdaptiveAvgPool2d(1),
            features=(512, 10),
        ),
        test_acc=0.99738,
        n=10,
        epochs=11,
    ),
    "simard": PublishedSystem(source=LECUN, net=mlp(784, 800, 10), test_acc=0.993),
    "hinton": PublishedSystem(source="https://arxiv.org/abs/1503.02531", net=mlp(784, 800, 800, 10), test_acc=0.9926),
    "ciresan": PublishedSystem(
        source="https://arxiv.org/abs/1003.0358",
        net=cnn(nn.ZeroPad2d((0, 1, 0, 1)), features=(841, 2500, 2000, 1500, 1000, 500, 10)),  # images of 29x29 pixels
        test_acc=0.9965,
        n=1,
        epochs=800,
    ),
}
