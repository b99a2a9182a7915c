"""Augmentation: one resample a batch, a draw for each image, the same again for the same seed."""

import pytest
import torch
import torch.nn.functional as F

from digitnet.data import Augmentation, MNISTDataModule, mnist
from digitnet.errors import UsageError

ALL = Augmentation(rotation=15, scale=0.15, shear=0.15, shift=2, elastic=1)
IMAGES = mnist.load_mnist("test")[0][:64]


def ink(images: torch.Tensor) -> torch.Tensor:
    return images.float().sum(dim=(1, 2))


def centre(images: torch.Tensor) -> torch.Tensor:
    """Column and row of the centre of mass, `[N, 2]`."""
    places = torch.arange(28.0)
    weights = images.float() / ink(images)[:, None, None]
    return torch.stack([(weights.sum(1) * places).sum(1), (weights.sum(2) * places).sum(1)], dim=1)


def test_what_is_not_named_is_not_done() -> None:
    torch.testing.assert_close(Augmentation()(IMAGES, seed=0), IMAGES.float() / 255, atol=1e-5, rtol=0)


def test_each_image_has_a_draw_of_its_own() -> None:
    same = IMAGES[:1].expand(32, -1, -1)
    bent = ALL(same, seed=0)
    distances = torch.cdist(bent.flatten(1), bent.flatten(1)) + torch.eye(32) * 1e9
    assert distances.min() > 0.5


def test_the_same_seed_bends_the_same_way_whatever_was_drawn_before() -> None:
    first = ALL(IMAGES, seed=3)
    torch.rand(1000)
    assert torch.equal(first, ALL(IMAGES, seed=3))
    assert not torch.equal(first, ALL(IMAGES, seed=4))


def test_there_is_one_resample_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    once = F.grid_sample

    def counted(pixels: torch.Tensor, grid: torch.Tensor, **options: bool) -> torch.Tensor:
        calls.append(len(pixels))
        return once(pixels, grid, **options)

    monkeypatch.setattr(F, "grid_sample", counted)
    ALL(IMAGES, seed=0)
    assert calls == [64]


def test_a_shift_moves_by_up_to_that_many_pixels_and_changes_nothing_else() -> None:
    moved = Augmentation(shift=2)(IMAGES, seed=0)
    by = (centre(moved) - centre(IMAGES)).abs()
    assert 1.5 < by.max() <= 2.05
    torch.testing.assert_close(ink(moved), ink(IMAGES) / 255, rtol=0.02, atol=0)


def test_a_rotation_goes_round_the_middle_and_keeps_the_ink() -> None:
    turned = Augmentation(rotation=30)(IMAGES, seed=0)
    before, after = ((centre(images) - 13.5).norm(dim=1) for images in (IMAGES, turned))
    torch.testing.assert_close(after, before, atol=0.1, rtol=0)
    torch.testing.assert_close(ink(turned), ink(IMAGES) / 255, rtol=0.05, atol=0)
    assert (turned - IMAGES / 255).abs().mean() > 0.02


def test_a_scale_changes_the_ink_by_up_to_its_square() -> None:
    share = ink(Augmentation(scale=0.2)(IMAGES, seed=0)) / (ink(IMAGES) / 255)
    assert 1.2 < share.max() < 1 / 0.8**2 + 0.05
    assert 1 / 1.2**2 - 0.05 < share.min() < 0.85


def test_it_is_on_in_training_and_off_elsewhere() -> None:
    data = MNISTDataModule(augmentation=ALL)
    assert next(iter(data.train_dataloader()))[0].dtype == torch.float32
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert next(iter(loader))[0].dtype == torch.uint8


@pytest.mark.parametrize("amounts", [{"rotation": -1}, {"scale": 1.0}, {"elastic": float("nan")}])
def test_an_amount_out_of_range_is_refused(amounts: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"augmentation\.{next(iter(amounts))}="):
        Augmentation(**amounts)
