"""A loader whose batches follow from their position: seed, epoch, step and rank."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from digitnet.data.augmentation import Augmentation

_STEP_STREAM = 1
"""Separates the random numbers of the steps of an epoch from those of its permutation."""


@dataclass(eq=False)
class DeterministicLoader:
    """Yield batches of images and labels that are a function of seed, epoch, step and rank alone.

    It takes the place of a `DataLoader` in a Trainer, and it can be iterated over by itself. It keeps no other state,
    so a resumed run continues with exactly the batches that the interrupted run would have had.

    An epoch is divided into `len(self)` batches of equal size, give or take one image, and each batch into `world_size`
    equal parts. Over all ranks every image occurs exactly once in an epoch, and all ranks take equally many steps.

    Without a seed, the images come in the order of the tensors and are not augmented. With a seed, they are shuffled
    and augmented, and the global random state of torch is set before each batch, so that dropout is a function of the
    position as well.

    Args:
        images: Images `[N, 28, 28]`, uint8. Batches are on the same device.
        labels: Labels `[N]`.
        batch_size: Largest number of images of a batch, over all ranks together.
        shuffle_seed: Seed of order, augmentation and dropout, 0 or more; None turns shuffling and augmentation off.
        augmentation: Augmentation of the images, if any.
        rank: Index of this process.
        world_size: Number of processes.
        epoch: Epoch of the next iteration, from 0. The Trainer sets it by `set_epoch`.
        step: Number of batches of the epoch that were yielded.
        resume_position: Epoch and step at which a resumed run continues.
    """

    images: Tensor
    labels: Tensor
    batch_size: int
    shuffle_seed: int | None = None
    augmentation: Augmentation | None = None
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    step: int = 0
    resume_position: dict[str, int] | None = None

    batch_sampler = None  # Lightning looks for a sampler and a batch sampler, and calls set_epoch on what it finds

    @property
    def sampler(self) -> "DeterministicLoader":
        """This loader, which draws its own order."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, from 0."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Return the position, for the checkpoint."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at a position that `state_dict` has returned."""
        self.resume_position = state_dict

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        permutation = self.permutation()
        if self.shuffle_seed is not None:
            seeds = self._step_seeds(self.view)
            dropout_seeds = seeds if self.view == self.epoch else self._step_seeds(self.epoch)
        for step in range(self.resume_step(), len(self)):
            self.step = step + 1
            start, end = _partition_bounds(len(self.images), step, len(self))
            first, last = _partition_bounds(end - start, self.rank, self.world_size)
            chosen = permutation[start + first : start + last]
            images, labels = self.images[chosen], self.labels[chosen]
            if self.shuffle_seed is not None:
                if self.augmentation is not None:
                    images = self.augmentation(images, seeds[2 * step])
                _seed_device(images.device, dropout_seeds[2 * step + 1])
            yield images, labels

    @property
    def view(self) -> int:
        """Epoch whose order and augmentation this epoch has, which is an earlier one if `Augmentation.views` is set."""
        views = self.augmentation.views if self.augmentation else None
        return self.epoch % views if views else self.epoch

    def batch_id(self, step: int) -> tuple[int, int] | None:
        """Return what identifies a batch of this epoch that occurs in later epochs too; None if it does not."""
        return (self.view, step) if self.augmentation and self.augmentation.views else None

    def _step_seeds(self, epoch: int) -> list[int]:
        """Return two seeds for each step of an epoch: of the augmentation and of dropout."""
        assert self.shuffle_seed is not None
        return _derive_seeds(self.shuffle_seed, epoch, self.rank, _STEP_STREAM, count=2 * len(self))

    def resume_step(self) -> int:
        """Return the first step to yield, which is not 0 once: when a run resumes in the middle of this epoch."""
        position, self.resume_position = self.resume_position, None
        return position["step"] if position and position["epoch"] == self.epoch else 0

    def permutation(self) -> Tensor:
        """Return the order of the images in this epoch, `[N]`."""
        if self.shuffle_seed is None:
            return torch.arange(len(self.images), device=self.images.device)
        generator = torch.Generator().manual_seed(*_derive_seeds(self.shuffle_seed, self.view, count=1))
        # It is drawn on the CPU, so that the order is the same on every device.
        return torch.randperm(len(self.images), generator=generator).to(self.images.device)


def _partition_bounds(total: int, index: int, parts: int) -> tuple[int, int]:
    """Return the bounds of one of `parts` consecutive parts of `total`, which are equal give or take one."""
    return total * index // parts, total * (index + 1) // parts


def _derive_seeds(*position: int, count: int) -> list[int]:
    """Return `count` 64-bit seeds that are a function of a position.

    Neighbouring positions give unrelated seeds, but trailing zeros of a position have no effect. The seeds are drawn
    together, because one draw costs as much as many.
    """
    states: list[int] = np.random.SeedSequence(position).generate_state(count, np.uint64).tolist()
    return states


def _seed_device(device: torch.device, seed: int) -> None:
    """Set the random state of torch for a device."""
    if device.type == "cpu":
        # torch.manual_seed also formats a stack trace for each absent accelerator: 1.5 ms, as long as an MLP step.
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
    else:
        torch.manual_seed(seed)
