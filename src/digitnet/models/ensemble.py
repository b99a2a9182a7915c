"""Ensembles of networks and test-time augmentation."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digitnet.errors import check_argument
from digitnet.models.module import DigitModule


class Ensemble(DigitModule):
    """The mean of the probabilities of several networks, optionally over several shifts of the image.

    The logits are the logarithms of the mean probabilities. An ensemble cannot be trained.

    Args:
        members: The networks, at least one.
        tta_shift: Test-time augmentation: largest shift of the image in pixels, in each direction. With 1, each network
            sees the image at nine positions; with 0, only as it is. Must be 0 or more.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(self, members: Sequence[DigitModule], tta_shift: int = 0) -> None:
        super().__init__()
        check_argument(len(members) >= 1, "members", members, "at least one network")
        check_argument(tta_shift >= 0, "tta_shift", tta_shift, "0 or more")
        first = members[0]
        same = all(_kind_of_data(member) == _kind_of_data(first) for member in members)
        check_argument(same, "members", [member.architecture for member in members], "networks of the same data set")
        self.members = nn.ModuleList(members)
        self.num_classes, self.dataset = first.num_classes, first.dataset
        self.tta_shift = tta_shift

    @property
    def architecture(self) -> str:
        """Names of the networks' classes."""
        return " + ".join(sorted({member.architecture for member in self._members()}))

    def compute_logits(self, pixels: Tensor) -> Tensor:
        """Return the logarithms of the mean probabilities, `[N, C]`."""
        log_probs = [
            member.compute_logits(view).log_softmax(dim=1)
            for view in self._shifted_views(pixels)
            for member in self._members()
        ]
        return torch.stack(log_probs).logsumexp(dim=0).log_softmax(dim=1)

    def _members(self) -> Iterator[DigitModule]:
        for member in self.members:
            assert isinstance(member, DigitModule)
            yield member

    def _shifted_views(self, pixels: Tensor) -> Iterator[Tensor]:
        """Yield the pixels at every position up to the largest shift; pixels at the edges are repeated."""
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, [self.tta_shift] * 4, mode="replicate")
        for top in range(2 * self.tta_shift + 1):
            for left in range(2 * self.tta_shift + 1):
                yield padded[..., top : top + height, left : left + width]


def _kind_of_data(model: DigitModule) -> tuple[int, str, tuple[str, ...]]:
    """Return the number of classes of a network, and the name and the classes of the data that it was trained on."""
    record = model.dataset
    return (model.num_classes, record.name if record else "", record.classes if record else ())
