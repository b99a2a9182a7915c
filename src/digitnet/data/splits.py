"""Which images a model is trained on, and which validate it."""

import torch
from torch import Tensor


def split_indices(labels: Tensor, val_size: int, train_size: int, seed: int) -> dict[str, Tensor]:
    """Divide labelled images into a training and a validation set in which each class has its proportion.

    The validation set does not depend on `train_size`.

    Args:
        labels: Integer labels `[N]`.
        val_size: Number of images of the validation set.
        train_size: Number of images of the training set. At most `N - val_size`.
        seed: Seed of the choice, from 0 to 2**64 - 1.

    Returns:
        Disjoint indices into `labels` in ascending order: "val", `[val_size]`, and "train", `[train_size]`.

    """
    everything = torch.arange(len(labels))
    val = everything[stratified_indices(labels, val_size, seed)]
    rest = everything[~torch.isin(everything, val)]
    return {"val": val, "train": rest[stratified_indices(labels[rest], train_size, seed)]}


def stratified_indices(labels: Tensor, size: int, seed: int) -> Tensor:
    """Draw random indices without replacement so that each class has its proportion, give or take one.

    Args:
        labels: Integer labels `[N]`.
        size: Number of indices to draw, from 0 to N.
        seed: Seed of the draw, from 0 to 2**64 - 1.

    Returns:
        Indices `[size]` in ascending order.

    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    evenly_spaced = torch.arange(size) * len(labels) // max(size, 1)
    return by_class[evenly_spaced].sort().values
