"""The shared LightningModule and the networks on it."""

from digitnet.models.classifier import DigitClassifier
from digitnet.models.cnn import CNN
from digitnet.models.distillation import Distillation
from digitnet.models.ensemble import Ensemble
from digitnet.models.mlp import MLP

# A checkpoint names its class, and only these are built from one: add yours here.
MODELS: dict[str, type[DigitClassifier]] = {model.__name__: model for model in (CNN, MLP)}

__all__ = ["CNN", "MLP", "MODELS", "DigitClassifier", "Distillation", "Ensemble"]
