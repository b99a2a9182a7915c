"""A student that imitates a teacher: Hinton, Vinyals and Dean, 2015."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitnet.errors import check_argument


@dataclass
class Distillation:
    """Mixes into a loss how far the student is from the teacher's probabilities for the same, augmented images.

    `weight` 1 leaves only the teacher to learn from; a `temperature` above 1 also tells which wrong digits it finds
    less wrong. This is no nn.Module, so that the teacher goes into no checkpoint.
    """

    teacher: nn.Module  # images in, logits out
    temperature: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_argument(self.temperature > 0, "distillation.temperature", self.temperature, "above 0")
        check_argument(0 <= self.weight <= 1, "distillation.weight", self.weight, "from 0 to 1")

    def __call__(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.teacher.to(logits.device)(images)
        student, teacher = (F.log_softmax(each / self.temperature, dim=1) for each in (logits, target))
        distance = F.kl_div(student, teacher, log_target=True, reduction="batchmean") * self.temperature**2
        return (1 - self.weight) * loss + self.weight * distance
