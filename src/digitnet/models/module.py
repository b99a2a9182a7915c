"""The base class of every model and ensemble: pixels in, logits out, and the metrics of validation and test."""

from abc import abstractmethod
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.models.calibration import Calibration
from digitnet.models.dataset_record import DatasetRecord
from digitnet.models.metrics import EpochMetrics

PIXEL_MEAN = 0.1307
"""Mean of the training pixels, which range from 0 to 1."""

PIXEL_STD = 0.3081
"""Standard deviation of the training pixels."""

Batch = tuple[Tensor, Tensor]
"""Images `[N, 28, 28]` or `[N, 1, 28, 28]` and labels `[N]`, from 0 to C - 1 for C classes."""


class DigitModule(L.LightningModule):
    """A classifier of images of 28x28 pixels that can be validated, tested and used for prediction.

    The input is a batch of images of shape `[N, 28, 28]` or `[N, 1, 28, 28]` with bright ink on a dark background,
    either uint8 from 0 to 255 or floating point from 0 to 1. The output is the logits, of shape `[N, C]` for C classes.
    The module normalizes the pixels itself.

    A subclass implements `compute_logits`. To define a network that can be trained, extend `DigitClassifier` instead.
    """

    calibration: Calibration | None = None
    """Calibration of the probabilities, if it is known."""

    num_classes: int = 10
    """Number of classes, C."""

    dataset: DatasetRecord | None = None
    """The data set that the model was trained on, if it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        self.epoch_metrics: dict[str, EpochMetrics] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning sets it 40 times in each training step
            object.__setattr__(self, name, value)  # torch would look whether the value is a parameter, module or buffer
        else:
            super().__setattr__(name, value)

    @property
    def architecture(self) -> str:
        """Name of the network's class, or names of an ensemble's."""
        return type(self).__name__

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: those of the Trainer's data, those of the training, or the numbers from 0."""
        datamodule = getattr(self._trainer, "datamodule", None)
        trained = self.dataset.classes if self.dataset else ()
        for names in (tuple(map(str, getattr(datamodule, "classes", None) or ())), trained):
            if len(names) == self.num_classes:
                return names
        return tuple(map(str, range(self.num_classes)))

    @abstractmethod
    def compute_logits(self, pixels: Tensor) -> Tensor:
        """Return the logits `[N, C]` of normalized pixels.

        Args:
            pixels: Images `[N, 1, 28, 28]` with mean 0 and standard deviation 1, in the module's dtype.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of images.

        Args:
            images: Images `[N, 28, 28]` or `[N, 1, 28, 28]`, uint8 from 0 to 255 or floating point from 0 to 1.

        Returns:
            Logits `[N, C]` in float32.
        """
        return self.compute_logits(self.normalize(images)).float()

    def normalize(self, images: Tensor) -> Tensor:
        """Return images as normalized pixels `[N, 1, 28, 28]` in the module's dtype.

        Args:
            images: Images in any form that `forward` accepts.
        """
        pixels = images.to(self.dtype) / 255 if images.dtype == torch.uint8 else images.to(self.dtype)
        return ((pixels.unsqueeze(1) if pixels.dim() == 3 else pixels) - PIXEL_MEAN) / PIXEL_STD

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the validation metrics."""
        self.eval_step(batch, "val")

    def test_step(self, batch: Batch) -> None:
        """Add a batch to the test metrics."""
        self.eval_step(batch, "test")

    def predict_step(self, batch: Batch | Tensor) -> Tensor:
        """Return the probabilities `[N, C]` of a batch of images, with or without labels."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        probabilities: Tensor = self(images).softmax(dim=1)
        return probabilities

    def eval_step(self, batch: Batch, stage: str) -> None:
        """Add a batch to the metrics of a stage, "val" or "test"."""
        images, labels = batch
        logits: Tensor = self(images)
        self.epoch_metrics[stage].add(F.cross_entropy(logits, labels), logits, labels)

    def on_validation_epoch_start(self) -> None:
        """Start the validation metrics."""
        self.epoch_metrics["val"] = EpochMetrics()

    def on_test_epoch_start(self) -> None:
        """Start the test metrics."""
        self.epoch_metrics["test"] = EpochMetrics()

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self.log_dict(self.compute_metrics("val"))

    def on_test_epoch_end(self) -> None:
        """Log the test metrics, with the accuracy by class."""
        by_class = {f"test/acc/{name}": value for name, value in self.compute_accuracy_by_class("test").items()}
        self.log_dict(self.compute_metrics("test"))
        self.log_dict(by_class, logger=False)  # charts of one point each would hide the others in TensorBoard

    def count_multiply_adds(self) -> int | None:
        """Return the number of multiplications with an addition that the network needs for one image.

        Convolutions and matrix products are counted, by `torch.utils.flop_counter`.

        Returns:
            The number, or None if the network has an operation that cannot be counted.
        """
        from torch.utils.flop_counter import FlopCounterMode  # takes time to import

        modes = [(module, module.training) for module in self.modules()]
        try:
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                self.eval()(self.example_input_array)
            return int(counter.get_total_flops() // 2)  # an addition and a multiplication are two of them
        except Exception:  # a network may contain anything, and must not fail for being counted
            return None
        finally:
            for module, mode in modes:
                module.training = mode

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Return the loss and accuracy of an epoch over the images of all processes, each image counted once.

        Args:
            stage: "train", "val" or "test".

        Returns:
            `STAGE/loss` and `STAGE/acc` in float64, so that 9,923 of 10,000 is logged as 0.9923. They are on the CPU,
            because not every device supports float64.
        """
        totals = self.epoch_metrics[stage].totals()
        loss, correct, images = self.trainer.strategy.reduce(totals, reduce_op="sum").tolist()
        means = torch.tensor([loss, correct], dtype=torch.float64) / images
        return {f"{stage}/loss": means[0], f"{stage}/acc": means[1]}

    def compute_accuracy_by_class(self, stage: str) -> dict[str, Tensor]:
        """Return the accuracy of an epoch on the images of each class, over all processes.

        Args:
            stage: "train", "val" or "test".

        Returns:
            The accuracies by the name of the class, in float64 on the CPU. A class without images has none.
        """
        totals = self.epoch_metrics[stage].totals_by_class()
        correct, images = self.trainer.strategy.reduce(totals, reduce_op="sum").cpu().double()
        return {name: correct[i] / images[i] for i, name in enumerate(self.class_names) if images[i]}
