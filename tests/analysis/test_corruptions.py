"""Each corruption against the published definition of MNIST-C, which is written here once more, image by image."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import canny
from skimage.transform import AffineTransform, warp

from digitnet.analysis import corruptions
from digitnet.analysis.corruptions import CORRUPTIONS, corrupt
from digitnet.data.mnist import load_mnist

PUBLISHED = [  # CORRUPTIONS of the published corruptions.py, without "identity"
    *("shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness"),
    *("translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges"),
]
NOISE = {"shot_noise", "impulse_noise", "glass_blur", "motion_blur", "fog", "spatter", "dotted_line", "zigzag"}
TWO_WAYS = {"shear", "rotate", "translate"}


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Sixty test images."""
    return load_mnist("test")[0][:60].numpy()


def test_there_are_the_fifteen_of_mnist_c_in_their_order() -> None:
    assert list(CORRUPTIONS) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_images_keep_their_shape_and_type_and_all_change(name: str, images: NDArray[np.uint8]) -> None:
    before = images.copy()
    corrupted = corrupt(images, name)
    assert (corrupted.shape, corrupted.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before), "the input is changed"
    assert (corrupted != images).any(axis=(1, 2)).mean() > 0.9
    assert corrupted.max() > 100
    assert len(corrupt(images[:0], name)) == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_seed_determines_the_images(name: str, images: NDArray[np.uint8]) -> None:
    first, again, other = (corrupt(images, name, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) != (name in NOISE | TWO_WAYS)


@pytest.mark.parametrize("name", sorted(NOISE))
def test_two_copies_of_an_image_are_corrupted_differently(name: str, images: NDArray[np.uint8]) -> None:
    copies = corrupt(np.repeat(images[:1], 20, axis=0), name)
    assert len({copy.tobytes() for copy in copies}) > 5


@pytest.mark.parametrize("shape", [(3, 28, 27), (28, 28), (3, 1, 28, 28)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        corrupt(np.zeros(shape, dtype=np.uint8), "stripe")


def nearest(corrupted: NDArray[np.uint8], candidates: list[NDArray[np.floating]]) -> float:
    """Return the largest difference, in grey levels, of an image from the most similar of the images it may be."""
    return min(float(np.abs(corrupted - 255 * np.clip(each, 0, 1)).max()) for each in candidates)


def about_center(matrix: NDArray[np.floating]) -> AffineTransform:
    """Return the published transform: the translation keeps the point (13.5, 13.5)."""
    (a1, a2), (b1, b2) = matrix[:2, :2]
    full = np.array([[a1, a2, 13.5 * (1 - a1 - a2)], [b1, b2, 13.5 * (1 - b1 - b2)], [0, 0, 1]])
    return AffineTransform(matrix=full)


AFFINE = {
    "shear": [about_center(np.array([[1, -math.sin(c)], [0, math.cos(c)]])) for c in (0.4, -0.4)],
    "scale": [about_center(AffineTransform(scale=1 / 0.7).params)],
    "rotate": [about_center(AffineTransform(rotation=c).params) for c in (0.4, -0.4)],
    "translate": [AffineTransform(translation=(x, y)) for x in (3, -3) for y in (3, -3)],
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_corruptions_are_warps_by_the_published_amounts(name: str, images: NDArray[np.uint8]) -> None:
    found = set()
    for image, corrupted in zip(images, corrupt(images, name), strict=True):
        candidates = [warp(image / 255.0, inverse_map=transform) for transform in AFFINE[name]]
        assert nearest(corrupted, candidates) < 0.51
        found.add(min(range(len(candidates)), key=lambda i: np.abs(corrupted - 255 * candidates[i]).max()))
    assert found == set(range(len(AFFINE[name]))), "not every direction occurs"


def test_brightness_adds_one_half(images: NDArray[np.uint8]) -> None:
    expected = np.minimum(images.astype(float) + 127.5, 255)
    assert corrupt(images, "brightness") == pytest.approx(expected, abs=0.51)


def test_stripe_inverts_the_outer_quarters(images: NDArray[np.uint8]) -> None:
    expected = images.copy()
    expected[:, :, :7], expected[:, :, 21:] = 255 - expected[:, :, :7], 255 - expected[:, :, 21:]
    assert np.array_equal(corrupt(images, "stripe"), expected)


def test_canny_edges_are_those_of_scikit_image(images: NDArray[np.uint8]) -> None:
    for image, corrupted in zip(images, corrupt(images, "canny_edges"), strict=True):
        assert np.array_equal(corrupted, 255 * canny(image / 255.0).astype(np.uint8))


def test_shot_noise_counts_three_photons_at_full_brightness() -> None:
    grey = np.full((200, 28, 28), 128, dtype=np.uint8)
    corrupted = corrupt(grey, "shot_noise")
    assert set(np.unique(corrupted)) == {0, 85, 170, 255}
    mean = 3 * 128 / 255
    assert (corrupted == 0).mean() == pytest.approx(math.exp(-mean), abs=0.01)
    assert (corrupted == 85).mean() == pytest.approx(mean * math.exp(-mean), abs=0.01)


def test_impulse_noise_changes_17_percent_half_to_black_half_to_white() -> None:
    corrupted = corrupt(np.full((200, 28, 28), 100, dtype=np.uint8), "impulse_noise")
    assert (corrupted == 0).mean() == pytest.approx(0.085, abs=0.005)
    assert (corrupted == 255).mean() == pytest.approx(0.085, abs=0.005)
    assert (corrupted == 100).mean() == pytest.approx(0.83, abs=0.01)


def test_motion_blur_smears_a_dot_along_half_a_gaussian(images: NDArray[np.uint8]) -> None:
    dot = np.zeros((300, 28, 28), dtype=np.uint8)
    dot[:, 14, 22] = 255
    corrupted = corrupt(dot, "motion_blur")
    kernel = np.exp(-(np.arange(21) ** 2) / 18)
    assert np.all(corrupted[:, 14, 22] == np.rint(255 * kernel[0] / kernel.sum()))
    rows, columns = np.nonzero(corrupted.max(axis=0))
    assert columns.max() == 22, "not one-sided"
    assert set(np.abs(rows - 14)) >= {0, 3, 6}
    assert np.all(np.abs(rows - 14) <= np.abs(columns - 22) + 1), "steeper than 45 degrees"


def test_glass_blur_swaps_pixels_between_two_vertical_blurs() -> None:
    image = np.zeros((2, 28, 28), dtype=np.uint8)
    image[:, 10, 14], image[:, 27, 0] = 255, 255
    blur = ndimage.gaussian_filter1d(
        np.floor(ndimage.gaussian_filter1d(image * 1.0, 0.7, axis=1, mode="nearest")), 0.7, 1
    )
    corrupted = corrupt(image, "glass_blur").astype(float)
    assert corrupted[:, 26:, 0] == pytest.approx(np.rint(blur[:, 26:, 0]), abs=1.01), "the first columns stay"
    assert corrupted.sum() == pytest.approx(blur.sum(), rel=0.05), "swaps keep the sum"
    assert not np.array_equal(corrupted[0], corrupted[1])


def test_fog_is_a_fractal_of_three_times_the_brightness(images: NDArray[np.uint8]) -> None:
    image, corrupted = images[0] / 255.0, corrupt(images[:1], "fog")[0] / 255.0
    clouds = (corrupted * (image.max() + 3) / image.max() - image) / 3
    assert clouds.min() > -0.01
    assert clouds.max() < 1.01
    assert np.abs(np.diff(clouds, axis=0)).max() < 0.3, "neighbours are similar"
    maps = corruptions._plasma_fractals(3, 1.4, np.random.default_rng(0))
    assert maps.shape == (3, 256, 256)
    assert np.allclose([maps.min(axis=(1, 2)), maps.max(axis=(1, 2))], [[0] * 3, [1] * 3])
    coarse, fine = (np.abs(np.diff(maps[:, ::step, ::step], axis=1)).mean() for step in (64, 1))
    assert coarse > 2 * fine, "not a fractal: as rough near as far"


def test_spatter_mixes_in_mud_of_a_quarter_of_the_brightness() -> None:
    white, black = (np.full((200, 28, 28), value, dtype=np.uint8) for value in (255, 0))
    on_white, on_black = corrupt(white, "spatter"), corrupt(black, "spatter")
    share = on_black / 63  # the same seed throws the same mud
    assert on_black.max() == 63
    assert np.all((share == 0) | (share > 0.78)), "the edges of the blots are cut at 0.8"
    assert on_white == pytest.approx(255 * (1 - share) + on_black, abs=4)
    assert 0.05 < (share > 0).mean() < 0.35


def published_line(c0: float, r0: float, c1: float, r1: float) -> NDArray[np.floating]:
    """Compute a line pixel by pixel, as the published definition says."""
    line = np.zeros((28, 28))
    for row in range(28):
        for column in range(math.floor(c0), min(math.ceil(c1), 28)):
            distance = abs(row - (r0 + (r1 - r0) / (c1 - c0) * (column - c0)))
            line[row, column] = max(0.0, 1 + math.log(1 - distance / 2.3)) if distance < 2.3 else 0
    return line


def test_dotted_lines_end_at_whole_rows_with_two_columns_on_and_two_off() -> None:
    black = np.zeros((12, 28, 28), dtype=np.uint8)
    dots = (np.arange(28) // 2) % 2 == 1
    candidates = [published_line(0, a, 27, b) * dots for a in range(27) for b in range(27)]
    for corrupted in corrupt(black, "dotted_line"):
        assert nearest(corrupted, candidates) < 0.51


def test_zigzags_have_peaks_of_two_pixels_four_apart() -> None:
    flat = corruptions._zigzag(13, 0)
    corners = [(2, 13), *((2 + 2 * (2 * i + 1), 13 + 2 * (-1) ** i) for i in range(6)), (25, 13 - 2 / 6)]
    expected = sum(published_line(*a, *b) for a, b in itertools.pairwise(corners))
    assert flat == pytest.approx(np.clip(expected, 0, 1))
    candidates = [corruptions._zigzag(row, rise) for row in range(27) for rise in range(-5, 5)]
    for corrupted in corrupt(np.zeros((12, 28, 28), dtype=np.uint8), "zigzag"):
        assert nearest(corrupted, candidates) < 0.51
