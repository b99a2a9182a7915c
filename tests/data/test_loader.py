"""The deterministic loader: every image once an epoch over any number of processes, in a reproducible order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.data import Augmentation, DeterministicLoader

IMAGES = torch.arange(1003, dtype=torch.int32).to(torch.uint8).view(-1, 1, 1).expand(-1, 28, 28)
LABELS = torch.arange(1003)


def labels_of(loader: DeterministicLoader) -> list[list[int]]:
    """Return the labels of each batch."""
    return [labels.tolist() for _, labels in loader]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("shuffle_seed", [None, 0])
def test_over_all_ranks_every_image_occurs_exactly_once(world_size: int, shuffle_seed: int | None) -> None:
    ranks = [
        DeterministicLoader(IMAGES, LABELS, 64, shuffle_seed, rank=r, world_size=world_size) for r in range(world_size)
    ]
    assert sorted(label for rank in ranks for batch in labels_of(rank) for label in batch) == LABELS.tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_ranks_take_equally_many_steps_on_batches_of_nearly_equal_size(world_size: int) -> None:
    ranks = [
        labels_of(DeterministicLoader(IMAGES, LABELS, 64, 0, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {16}
    sizes = {len(batch) for rank in ranks for batch in rank}
    assert max(sizes) - min(sizes) <= 1
    assert max(sum(len(rank[step]) for rank in ranks) for step in range(16)) <= 64


def test_the_batches_of_two_ranks_make_up_the_batch_of_a_single_process() -> None:
    ranks = [labels_of(DeterministicLoader(IMAGES, LABELS, 64, 0, rank=r, world_size=2)) for r in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == labels_of(
        DeterministicLoader(IMAGES, LABELS, 64, 0)
    )


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    fresh, used = DeterministicLoader(IMAGES, LABELS, 64, 5), DeterministicLoader(IMAGES, LABELS, 64, 5)
    list(used)
    used.set_epoch(7)
    fresh.set_epoch(7)
    torch.manual_seed(99)
    assert labels_of(fresh) == labels_of(used)
    fresh.set_epoch(8)
    assert labels_of(fresh) != labels_of(used)
    assert labels_of(DeterministicLoader(IMAGES, LABELS, 64, 5, epoch=7)) != labels_of(
        DeterministicLoader(IMAGES, LABELS, 64, 6, epoch=7)
    )


def test_without_a_seed_the_images_are_not_shuffled() -> None:
    assert [
        label for batch in labels_of(DeterministicLoader(IMAGES, LABELS, 100)) for label in batch
    ] == LABELS.tolist()


def test_shuffling_keeps_images_and_labels_aligned() -> None:
    for images, labels in DeterministicLoader(IMAGES, LABELS, 64, 0):
        assert torch.equal(images[:, 0, 0].int(), labels.int() % 256)


def test_dropout_depends_on_the_position_and_not_on_earlier_random_numbers() -> None:
    """A resumed run has the same dropout masks as a run that was not interrupted."""

    def dropout_masks(*, disturb: bool) -> list[Tensor]:
        masks = []
        for _ in DeterministicLoader(IMAGES, LABELS, 64, shuffle_seed=1):
            masks.append(F.dropout(torch.ones(50)))
            if disturb:
                torch.rand(7)
        return masks

    undisturbed, disturbed = dropout_masks(disturb=False), dropout_masks(disturb=True)
    assert all(map(torch.equal, undisturbed, disturbed))
    assert not torch.equal(undisturbed[0], undisturbed[1])


def test_with_views_the_batches_of_an_epoch_come_again_but_its_dropout_does_not() -> None:
    def first_batch(epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        augmentation = Augmentation(rotation=10, views=2)
        loader = DeterministicLoader(IMAGES, LABELS, 64, shuffle_seed=1, augmentation=augmentation, epoch=epoch)
        images, labels = next(iter(loader))
        return images, labels, F.dropout(torch.ones(50))

    start, other, again = first_batch(0), first_batch(1), first_batch(2)
    assert torch.equal(start[0], again[0])
    assert torch.equal(start[1], again[1])
    assert not torch.equal(start[2], again[2])
    assert not torch.equal(start[0], other[0])


def test_only_a_batch_that_comes_again_has_an_identity() -> None:
    def batch_id(views: int | None, epoch: int) -> tuple[int, int] | None:
        return DeterministicLoader(IMAGES, LABELS, 64, 1, Augmentation(views=views), epoch=epoch).batch_id(step=3)

    assert batch_id(views=2, epoch=5) == batch_id(views=2, epoch=1) == (1, 3)
    assert batch_id(views=2, epoch=4) != batch_id(views=2, epoch=5)
    assert batch_id(views=None, epoch=5) is None
