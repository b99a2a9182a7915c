"""Augmentation: one resampling for each batch, a random draw for each image, the same result for the same seed."""

import pytest
import torch
import torch.nn.functional as F

from digitnet.data import Augmentation, MNISTDataModule, mnist
from digitnet.errors import UsageError

ALL = Augmentation(rotation=15, scale=0.15, shear=0.15, shift=2, elastic=1)
IMAGES = mnist.load_mnist("test")[0][:64]


def ink(images: torch.Tensor) -> torch.Tensor:
    return images.float().sum(dim=(1, 2))


def center_of_mass(images: torch.Tensor) -> torch.Tensor:
    """Return the column and row of each image's centre of mass, `[N, 2]`."""
    positions = torch.arange(28.0)
    weights = images.float() / ink(images)[:, None, None]
    return torch.stack([(weights.sum(1) * positions).sum(1), (weights.sum(2) * positions).sum(1)], dim=1)


def test_without_arguments_the_images_are_unchanged() -> None:
    torch.testing.assert_close(Augmentation()(IMAGES, seed=0), IMAGES.float() / 255, atol=1e-5, rtol=0)


def test_each_image_is_distorted_differently() -> None:
    same = IMAGES[:1].expand(32, -1, -1)
    augmented = ALL(same, seed=0)
    distances = torch.cdist(augmented.flatten(1), augmented.flatten(1)) + torch.eye(32) * 1e9
    assert distances.min() > 0.5


def test_the_distortion_depends_on_the_seed_and_not_on_the_global_random_state() -> None:
    first = ALL(IMAGES, seed=3)
    torch.rand(1000)
    assert torch.equal(first, ALL(IMAGES, seed=3))
    assert not torch.equal(first, ALL(IMAGES, seed=4))


def test_a_batch_is_resampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    grid_sample = F.grid_sample

    def counting(pixels: torch.Tensor, grid: torch.Tensor, **options: bool) -> torch.Tensor:
        calls.append(len(pixels))
        return grid_sample(pixels, grid, **options)

    monkeypatch.setattr(F, "grid_sample", counting)
    ALL(IMAGES, seed=0)
    assert calls == [64]


def test_shift_moves_the_digit_by_at_most_that_many_pixels_and_keeps_its_ink() -> None:
    moved = Augmentation(shift=2)(IMAGES, seed=0)
    distance = (center_of_mass(moved) - center_of_mass(IMAGES)).abs()
    assert 1.5 < distance.max() <= 2.05
    torch.testing.assert_close(ink(moved), ink(IMAGES) / 255, rtol=0.02, atol=0)


def test_rotation_is_about_the_centre_of_the_image_and_keeps_the_ink() -> None:
    rotated = Augmentation(rotation=30)(IMAGES, seed=0)
    before, after = ((center_of_mass(images) - 13.5).norm(dim=1) for images in (IMAGES, rotated))
    torch.testing.assert_close(after, before, atol=0.1, rtol=0)
    torch.testing.assert_close(ink(rotated), ink(IMAGES) / 255, rtol=0.05, atol=0)
    assert (rotated - IMAGES / 255).abs().mean() > 0.02


def test_scale_changes_the_ink_by_at_most_its_square() -> None:
    ratio = ink(Augmentation(scale=0.2)(IMAGES, seed=0)) / (ink(IMAGES) / 255)
    assert 1.2 < ratio.max() < 1 / 0.8**2 + 0.05
    assert 1 / 1.2**2 - 0.05 < ratio.min() < 0.85


def test_cutout_blackens_one_square_in_each_image_and_leaves_the_rest() -> None:
    white = torch.full((500, 28, 28), 255, dtype=torch.uint8)
    black = Augmentation(cutout=8)(white, seed=0) < 0.5
    heights, widths = black.any(dim=2).sum(dim=1), black.any(dim=1).sum(dim=1)
    assert torch.equal(black.sum(dim=(1, 2)), heights * widths)
    assert heights.max() == widths.max() == 8
    assert heights.min() <= 5  # squares at the border are cut off by it


def test_cutout_reaches_every_pixel_and_differs_between_images() -> None:
    white = torch.full((2000, 28, 28), 255, dtype=torch.uint8)
    black = Augmentation(cutout=8)(white, seed=0) < 0.5
    assert black.any(dim=0).all()
    assert len(black.flatten(1).unique(dim=0)) > 500


def test_cutout_comes_after_the_distortions_and_does_not_change_them() -> None:
    distortions = {"rotation": 15, "shift": 2, "elastic": 1}
    plain, cut = Augmentation(**distortions)(IMAGES, seed=0), Augmentation(**distortions, cutout=10)(IMAGES, seed=0)
    changed = plain != cut
    assert changed.any()
    assert (cut[changed] == 0).all()


def test_only_training_batches_are_augmented() -> None:
    data = MNISTDataModule(augmentation=ALL)
    assert next(iter(data.train_dataloader()))[0].dtype == torch.float32
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert next(iter(loader))[0].dtype == torch.uint8


@pytest.mark.parametrize("amounts", [{"rotation": -1}, {"scale": 1.0}, {"elastic": float("nan")}, {"cutout": 29}])
def test_an_amount_out_of_range_raises_an_error_that_names_it(amounts: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"^{next(iter(amounts))}=.*: must be"):
        Augmentation(**amounts)
