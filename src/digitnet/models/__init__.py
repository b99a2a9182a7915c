"""The networks, and the LightningModules that they extend."""

from digitnet.models.calibration import Calibration
from digitnet.models.classifier import SCHEDULES, DigitClassifier, is_finite
from digitnet.models.cnn import CNN
from digitnet.models.dataset_record import MNIST_RECORD, DatasetRecord
from digitnet.models.distillation import Distillation
from digitnet.models.ensemble import Ensemble
from digitnet.models.metrics import EpochMetrics
from digitnet.models.mlp import MLP
from digitnet.models.module import DigitModule
from digitnet.models.registry import MODELS
from digitnet.models.resnet import ResNet

__all__ = [
    "CNN",
    "MLP",
    "MNIST_RECORD",
    "MODELS",
    "SCHEDULES",
    "Calibration",
    "DatasetRecord",
    "DigitClassifier",
    "DigitModule",
    "Distillation",
    "Ensemble",
    "EpochMetrics",
    "ResNet",
    "is_finite",
]
