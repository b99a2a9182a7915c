"""Tests of the filters: each gives what the slower function of scipy, scikit-image or numpy gives."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters as skimage_filters

from digitnet.inference.photos import filters

SIZES = (1, 2, 3, 7, 8, 15, 40, 43)


def noise(seed: int, *shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return smooth noise, as float32."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_a_closing_is_that_of_scipy_away_from_the_rim(size: int) -> None:
    image = noise(size, 130, 150)
    inside = (slice(size - 1, 130 - size + 1), slice(size - 1, 150 - size + 1))
    assert np.array_equal(filters.close_and_crop(image, size), ndimage.grey_closing(image, (size, size))[inside])


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_a_dilation_is_that_of_scipy(size: int) -> None:
    mask = noise(size, 60, 90) > 0.6
    assert np.array_equal(filters.dilate(mask, size), ndimage.binary_dilation(mask, np.ones((size, size), bool)))


@pytest.mark.parametrize("count", [2, 3, 50, 20_000])
def test_otsus_threshold_is_that_of_scikit_image(count: int) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).random(count).astype(np.float32) ** 3
        expected: float = skimage_filters.threshold_otsu(values)  # type: ignore[no-untyped-call]
        assert filters.otsu_threshold(values) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.45, 0.55), (0.5, 0.5), (0.9, 0.95), (0.1, 2)])
def test_a_hysteresis_is_that_of_scikit_image(low: float, high: float) -> None:
    values = noise(1, 80, 120)
    expected = skimage_filters.apply_hysteresis_threshold(values, low, high)  # type: ignore[no-untyped-call]
    assert np.array_equal(filters.hysteresis_mask(values, low, high), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 1023, 1024, 1025, 1026, 57_600, 57_601])
def test_a_median_is_that_of_numpy(count: int) -> None:
    values = noise(count, count)
    sorted_in_steps = np.sort(values).reshape(-1, 1) if count % 2 else np.sort(values).reshape(-1, 2)
    for each in (values, -np.sort(-values), sorted_in_steps, np.round(values, 2), np.zeros_like(values)):
        assert filters.median(each) == np.median(each)


@pytest.mark.parametrize("count", [1, 2, 3, 30, 31])
@pytest.mark.parametrize("fraction", [0, 0.25, 0.6, 1])
def test_a_quantile_is_that_of_numpy(count: int, fraction: float) -> None:
    values = noise(count, 20, count)
    np.testing.assert_allclose(filters.quantile(values, fraction), np.quantile(values, fraction, axis=1), rtol=1e-6)
