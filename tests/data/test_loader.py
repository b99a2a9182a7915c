"""The deterministic loader: every image once an epoch over any number of processes, in a reproducible order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from digitnet.data import DeterministicLoader

IMAGES = torch.arange(1003, dtype=torch.int32).to(torch.uint8).view(-1, 1, 1).expand(-1, 28, 28)
LABELS = torch.arange(1003)


def seen(batches: DeterministicLoader) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("shuffle_seed", [None, 0])
def test_every_image_comes_exactly_once_over_all_ranks(world_size: int, shuffle_seed: int | None) -> None:
    ranks = [
        DeterministicLoader(IMAGES, LABELS, 64, shuffle_seed, rank=r, world_size=world_size) for r in range(world_size)
    ]
    assert sorted(label for rank in ranks for batch in seen(rank) for label in batch) == LABELS.tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_take_equally_many_steps_and_nearly_equal_shares(world_size: int) -> None:
    ranks = [seen(DeterministicLoader(IMAGES, LABELS, 64, 0, rank=r, world_size=world_size)) for r in range(world_size)]
    assert {len(rank) for rank in ranks} == {16}
    sizes = {len(batch) for rank in ranks for batch in rank}
    assert max(sizes) - min(sizes) <= 1
    assert max(sum(len(rank[step]) for rank in ranks) for step in range(16)) <= 64


def test_processes_together_see_the_batch_that_one_would() -> None:
    ranks = [seen(DeterministicLoader(IMAGES, LABELS, 64, 0, rank=r, world_size=2)) for r in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == seen(
        DeterministicLoader(IMAGES, LABELS, 64, 0)
    )


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    fresh, used = DeterministicLoader(IMAGES, LABELS, 64, 5), DeterministicLoader(IMAGES, LABELS, 64, 5)
    list(used)
    used.set_epoch(7)
    fresh.set_epoch(7)
    torch.manual_seed(99)
    assert seen(fresh) == seen(used)
    fresh.set_epoch(8)
    assert seen(fresh) != seen(used)
    assert seen(DeterministicLoader(IMAGES, LABELS, 64, 5, epoch=7)) != seen(
        DeterministicLoader(IMAGES, LABELS, 64, 6, epoch=7)
    )


def test_without_a_seed_the_order_is_that_of_the_set() -> None:
    assert [label for batch in seen(DeterministicLoader(IMAGES, LABELS, 100)) for label in batch] == LABELS.tolist()


def test_images_and_labels_stay_together() -> None:
    for images, labels in DeterministicLoader(IMAGES, LABELS, 64, 0):
        assert torch.equal(images[:, 0, 0].int(), labels.int() % 256)


def test_what_is_dropped_follows_from_the_position_and_from_nothing_before() -> None:
    """A resumed run drops what the run that never stopped would have dropped."""

    def dropped(*, disturb: bool) -> list[Tensor]:
        found = []
        for _ in DeterministicLoader(IMAGES, LABELS, 64, shuffle_seed=1):
            found.append(F.dropout(torch.ones(50)))
            if disturb:
                torch.rand(7)
        return found

    quiet, disturbed = dropped(disturb=False), dropped(disturb=True)
    assert all(map(torch.equal, quiet, disturbed))
    assert not torch.equal(quiet[0], quiet[1])
