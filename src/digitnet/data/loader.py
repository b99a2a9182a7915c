"""Batches by position: which images come, how they are bent, what is dropped follow from (seed, epoch, step, rank)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digitnet.data.augmentation import Augmentation

STEPS = 1  # sets the random stream of the steps of an epoch apart from that of its order


@dataclass(eq=False)
class Batches:
    """Yields `(images, labels)`; give it to a Trainer in place of a DataLoader, or loop over it.

    An epoch is cut into `len(self)` batches of equal size, give or take one image, and each batch into `world_size`
    such shares: every image comes exactly once an epoch over all ranks, and no rank ever waits with an empty batch.
    With `shuffle_seed=None` the order is that of the tensors and nothing is augmented; with a seed, torch's own random
    state is also set before each batch, for dropout: a resume then needs no saved state.
    """

    images: Tensor
    labels: Tensor
    batch_size: int  # over all ranks together
    shuffle_seed: int | None = None
    augmentation: Augmentation | None = None
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    step: int = 0  # batches handed out in this epoch
    resumed: dict[str, int] | None = None  # position of the run that goes on

    batch_sampler = None  # Lightning asks for both, and calls set_epoch on what it finds

    @property
    def sampler(self) -> "Batches":
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.resumed = state_dict

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order()
        if self.shuffle_seed is not None:
            seeds = seeds_at(self.shuffle_seed, self.epoch, self.rank, STEPS, count=2 * len(self))
        for step in range(self.first_step(), len(self)):
            self.step = step + 1
            start, end = share(len(self.images), step, len(self))
            first, last = share(end - start, self.rank, self.world_size)
            chosen = order[start + first : start + last]
            images, labels = self.images[chosen], self.labels[chosen]
            if self.shuffle_seed is not None:
                if self.augmentation is not None:
                    images = self.augmentation(images, seeds[2 * step])
                reseed(images.device, seeds[2 * step + 1])
            yield images, labels

    def first_step(self) -> int:
        """Not 0 once: when a run goes on in the middle of this epoch."""
        resumed, self.resumed = self.resumed, None
        return resumed["step"] if resumed and resumed["epoch"] == self.epoch else 0

    def order(self) -> Tensor:
        if self.shuffle_seed is None:
            return torch.arange(len(self.images), device=self.images.device)
        generator = torch.Generator().manual_seed(*seeds_at(self.shuffle_seed, self.epoch, count=1))
        # Drawn on the CPU, so that every device sees the same order.
        return torch.randperm(len(self.images), generator=generator).to(self.images.device)


def share(total: int, index: int, parts: int) -> tuple[int, int]:
    """Bounds of one of `parts` consecutive shares of `total`, equal give or take one."""
    return total * index // parts, total * (index + 1) // parts


def seeds_at(*position: int, count: int) -> list[int]:
    """64-bit seeds that follow from a position, drawn together because one draw costs as much as many.

    Close positions give unrelated seeds; but zeros at the end of a position change nothing.
    """
    states: list[int] = np.random.SeedSequence(position).generate_state(count, np.uint64).tolist()
    return states


def reseed(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        # torch.manual_seed also formats a stack trace for each absent accelerator: 1.5 ms, as long as an MLP step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
