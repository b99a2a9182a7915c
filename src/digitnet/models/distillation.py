"""Knowledge distillation (Hinton, Vinyals and Dean, 2015)."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitnet.errors import check_argument


@dataclass
class Distillation:
    """The loss of knowledge distillation: a student learns from the soft labels of a teacher.

    The teacher receives the same augmented images as the student. Its logits for a batch that occurs again are kept in
    memory, 40 bytes for each image of 10 classes, so that `Augmentation.views` bounds the cost of the teacher. This
    class is not an `nn.Module`, so that the teacher becomes part of no checkpoint.

    Args:
        teacher: Trained network in evaluation mode that maps images `[N, 28, 28]` to logits `[N, C]`.
        temperature: Divisor of both networks' logits. A value above 1 gives more weight to the probabilities of the
            wrong digits. Must be above 0.
        alpha: Weight of the distillation loss against that of the labels. From 0 (labels only) to 1 (teacher only).

    Raises:
        ArgumentError: If a value is out of range.
    """

    teacher: nn.Module
    temperature: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        self._device: torch.device | None = None  # of the teacher, once it is known
        self._logits: dict[Hashable, Tensor] = {}  # of the teacher, for the batches that occur again
        check_argument(self.temperature > 0, "temperature", self.temperature, "above 0")
        check_argument(0 <= self.alpha <= 1, "alpha", self.alpha, "from 0 to 1")

    def __call__(self, loss: Tensor, logits: Tensor, images: Tensor, batch_id: Hashable | None = None) -> Tensor:
        """Return the student's loss.

        Args:
            loss: Loss against the labels, a scalar.
            logits: Logits of the student, `[N, C]`.
            images: The images that the student received.
            batch_id: Identifies the images if they occur again in a later epoch.
        """
        target = self._logits.get(batch_id)
        if target is None:
            target = self._teach(images, logits.device)
            if batch_id is not None:
                self._logits[batch_id] = target
        student, teacher = (F.log_softmax(each / self.temperature, dim=1) for each in (logits, target))
        distance = F.kl_div(student, teacher, log_target=True, reduction="batchmean") * self.temperature**2
        return (1 - self.alpha) * loss + self.alpha * distance

    def forget_batches(self) -> None:
        """Forget the teacher's logits, which belong to the batches of one training."""
        self._logits.clear()

    def _teach(self, images: Tensor, device: torch.device) -> Tensor:
        """Return the logits of the teacher, `[N, C]`."""
        if self._device != device:  # once: moving visits every weight, even if it is on the device already
            self.teacher.to(device)
            self._device = device
        with torch.no_grad():
            logits: Tensor = self.teacher(images)
        return logits
