import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.normalise import HIGHEST, LOWEST, SAMPLE_VOXELS, normalise


def gaussian_volume(shape=(30, 41, 52), *, mean=3e-6, spread=7e-6, seed=0):
    return np.random.default_rng(seed).normal(mean, spread, shape).astype(np.float32)


def test_normal_values_get_median_zero_and_standard_deviation_one():
    volume = gaussian_volume()
    normalised = normalise(volume)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, (volume - 3e-6) / 7e-6, atol=0.05)


def test_the_scale_is_that_of_percentiles_over_all_voxels_of_a_small_volume():
    volume = np.random.default_rng(1).gamma(2, size=(11, 12, 13))
    low, median, high = np.percentile(volume, [15.87, 50, 84.13])
    expected = np.clip((volume - median) / ((high - low) / 2), LOWEST, HIGHEST)
    np.testing.assert_allclose(normalise(volume), expected, atol=1e-5)


def test_gold_moves_neither_median_nor_spread():
    volume = gaussian_volume()
    with_gold = volume.copy()
    with_gold[3:9, 10:20, 5:15] = -1e-2
    plain, normalised = normalise(volume), normalise(with_gold)
    untouched = with_gold == volume
    np.testing.assert_allclose(normalised[untouched], plain[untouched], rtol=0.02, atol=0.02)
    assert with_gold[3, 10, 5] == np.float32(-1e-2)  # the argument stays
    assert (normalised[3:9, 10:20, 5:15] == LOWEST).all()


def test_bright_outliers_are_clipped_at_the_upper_bound():
    volume = gaussian_volume()
    volume[2, 3, 4] = 1.0
    assert normalise(volume)[2, 3, 4] == HIGHEST


def test_a_large_volume_is_scaled_by_a_subsample_that_is_the_same_each_time():
    volume = gaussian_volume((130, 135, 140))
    assert volume.size > SAMPLE_VOXELS
    normalised = normalise(volume)
    np.testing.assert_allclose([np.median(normalised), normalised.std()], [0, 1], atol=0.01)
    np.testing.assert_array_equal(normalise(volume), normalised)


def test_scaling_and_shifting_the_grey_values_changes_nothing():
    volume = gaussian_volume()
    np.testing.assert_allclose(normalise(volume.astype(np.float64) * 1e6 - 40), normalise(volume), atol=1e-4)


def test_integer_volumes_are_accepted():
    volume = np.random.default_rng(2).integers(-100, 100, (5, 6, 7), dtype=np.int16)
    np.testing.assert_allclose(normalise(volume), normalise(volume.astype(np.float64)), atol=1e-6)


def test_a_mostly_constant_volume_is_scaled_by_its_standard_deviation():
    volume = np.zeros((8, 9, 10), dtype=np.float32)
    volume[2:4, 3:6, 4:8] = -2.5
    np.testing.assert_allclose(normalise(volume), volume / volume.std(), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_a_constant_volume_is_an_input_error(value):
    with pytest.raises(InputError, match="constant"):
        normalise(np.full((3, 4, 5), value, dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_input_error(value):
    volume = gaussian_volume((3, 4, 5))
    volume[1, 2, 3] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        normalise(volume)


@pytest.mark.parametrize("shape", [(4, 5), (0, 4, 5), (1, 2, 3, 4)])
def test_other_shapes_are_an_input_error(shape):
    with pytest.raises(InputError, match="axes z, y, x"):
        normalise(np.ones(shape, dtype=np.float32))
