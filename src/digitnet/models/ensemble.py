"""Several opinions on one image: of several networks, and of one network that looks from several places."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Takes the place of a classifier's `net`: logs of the mean probabilities over all networks and all shifts.

    With `shift` 1 each network sees the image at nine places, moved by up to one pixel (test-time augmentation).
    """

    def __init__(self, nets: Sequence[nn.Module], shift: int = 0) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        opinions = [net(view).log_softmax(dim=1) for view in self.views(images) for net in self.nets]
        return torch.stack(opinions).logsumexp(dim=0).log_softmax(dim=1)

    def views(self, images: Tensor) -> Iterator[Tensor]:
        height, width = images.shape[-2:]
        padded = F.pad(images, [self.shift] * 4, mode="replicate")
        for top in range(2 * self.shift + 1):
            for left in range(2 * self.shift + 1):
                yield padded[..., top : top + height, left : left + width]
