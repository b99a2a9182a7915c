"""Batches by position: which images come, and how they are bent, follows from (seed, epoch, step, rank) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digitnet.data.augmentation import Augmentation

AUGMENTATION, DROPOUT = 1, 2  # end the position of a random stream, so that no two of them are the same


@dataclass(eq=False)
class Batches:
    """Yields `(images, labels)`; give it to a Trainer in place of a DataLoader, or loop over it.

    An epoch is cut into `len(self)` batches of equal size, give or take one image, and each batch into `world_size`
    such shares: every image comes exactly once an epoch over all ranks, and no rank ever waits with an empty batch.
    With `shuffle_seed=None` the order is that of the tensors and nothing is augmented.
    """

    images: Tensor
    labels: Tensor
    batch_size: int  # over all ranks together
    shuffle_seed: int | None = None
    augmentation: Augmentation | None = None
    rank: int = 0
    world_size: int = 1
    epoch: int = 0

    batch_sampler = None  # Lightning asks for both, and calls set_epoch on what it finds

    @property
    def sampler(self) -> "Batches":
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order()
        seeds = seeds_at(self.shuffle_seed or 0, self.epoch, self.rank, AUGMENTATION, count=len(self))
        for step, seed in enumerate(seeds):
            start, end = share(len(self.images), step, len(self))
            first, last = share(end - start, self.rank, self.world_size)
            chosen = order[start + first : start + last]
            images, labels = self.images[chosen], self.labels[chosen]
            if self.augmentation is not None and self.shuffle_seed is not None:
                images = self.augmentation(images, seed)
            yield images, labels

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
