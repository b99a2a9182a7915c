"""The metrics of one epoch, collected batch by batch."""

from typing import Any

import torch
from torch import Tensor


class EpochMetrics:
    """Buffers the losses, logits and labels of an epoch, from which its metrics are computed at the end.

    A running sum would cost five more operations at each step.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            mean_loss: Mean loss of the batch, a scalar.
            logits: Logits `[N, C]`.
            labels: Labels `[N]`.
        """
        self.losses.append(mean_loss.detach())
        self.logits.append(logits.detach())
        self.labels.append(labels)

    def state_dict(self) -> dict[str, Any]:
        """Return the batches of an unfinished epoch, on the CPU.

        The loss of each batch is kept apart, because a sum of partial sums may round differently.
        """
        buffers = {
            "losses": torch.stack(self.losses),
            "logits": torch.cat(self.logits),
            "labels": torch.cat(self.labels),
        }
        return {name: buffer.cpu() for name, buffer in buffers.items()} | {"sizes": list(map(len, self.labels))}

    def load_state_dict(self, state_dict: dict[str, Any], device: torch.device) -> None:
        """Restore the batches of an unfinished epoch.

        Args:
            state_dict: What `state_dict` returned.
            device: Device of the following batches.
        """
        losses, logits, labels = (state_dict[name].to(device) for name in ("losses", "logits", "labels"))
        sizes = state_dict["sizes"]
        self.losses, self.logits, self.labels = [*losses], [*logits.split(sizes)], [*labels.split(sizes)]

    def totals(self) -> Tensor:
        """Return the summed loss, the number of correct predictions and the number of images, `[3]`, on the device."""
        sizes = torch.tensor([len(labels) for labels in self.labels], dtype=torch.float64)
        losses, labels = torch.stack(self.losses), torch.cat(self.labels)
        loss = losses @ sizes.to(losses)
        correct = (torch.cat(self.logits).argmax(dim=1) == labels).sum()
        return torch.stack([loss, correct.to(loss), sizes.sum().to(loss)])

    def totals_by_class(self) -> Tensor:
        """Return the numbers of correct predictions and of images of each class, `[2, C]`, on the device."""
        labels, logits = torch.cat(self.labels), torch.cat(self.logits)
        correct, num_classes = labels[logits.argmax(dim=1) == labels], logits.shape[1]
        return torch.stack([correct.bincount(minlength=num_classes), labels.bincount(minlength=num_classes)])
