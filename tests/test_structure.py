"""What is kept, given back and taken away where there is structure, and where there is noise alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from kaggle_cryoet.simulation.structure import (
    BLOCK,
    NOISE_ENERGY,
    REACH_VOXELS,
    STRUCTURE_ENERGY,
    _add,
    _block_energy,
    give_back,
    quieten,
)

SHAPE = (38, 45, 51)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def test_all_is_given_back_if_nothing_is_withheld() -> None:
    volume, slow = noise(), gaussian_filter(noise(1), 4)
    expected = volume + slow
    give_back(volume, slow, 0.0)
    np.testing.assert_allclose(volume, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("withheld", [1.0, 0.6])
def test_what_is_withheld_is_withheld_where_there_is_noise_alone(withheld: float) -> None:
    volume, slow = noise(), np.full(SHAPE, -3.0, dtype=np.float32)
    grains = np.zeros(SHAPE, dtype=bool)
    grains[10:26, 14:32, 16:34] = True
    volume[grains] *= 3.0  # fine structure, of no mean of its own
    before = volume.copy()
    give_back(volume, slow, withheld)
    given = (volume - before) / -3.0
    np.testing.assert_allclose(given[15:21, 19:27, 21:29], 1.0, atol=1e-5)
    far = gaussian_filter(grains.astype(np.float32), REACH_VOXELS, truncate=5) < 1e-6
    assert far.mean() > 0.2
    np.testing.assert_allclose(np.median(given[far]), 1.0 - withheld, atol=1e-5)
    assert given[far].mean() < 1.0 - 0.99 * withheld


def test_energy_of_blocks_is_the_mean_of_their_squares_up_to_a_limit() -> None:
    volume = noise()
    volume[3, 5, 7] = 100.0
    padding = [(0, -size % BLOCK) for size in SHAPE]
    squares = np.pad(np.minimum(volume**2 * 0.5, 25), padding, constant_values=np.nan)
    nz, ny, nx = (size // BLOCK for size in squares.shape)
    blocks = squares.reshape(nz, BLOCK, ny, BLOCK, nx, BLOCK)
    found = _block_energy(volume, np.float32(0.5), np.float32(25))
    np.testing.assert_allclose(found, np.nanmean(blocks, axis=(1, 3, 5)), rtol=1e-5)


def test_energy_is_read_between_the_centres_of_blocks() -> None:
    volume = np.zeros(SHAPE, dtype=np.float32)
    slow = noise(1)
    energy = np.random.default_rng(2).uniform(0, 6, [-(-size // BLOCK) for size in SHAPE]).astype(np.float32)
    _add(volume, slow, energy, np.float32(0.8))
    places = (np.indices(SHAPE) - (BLOCK - 1) / 2) / BLOCK
    there = map_coordinates(energy, places, order=1, mode="nearest")
    known = np.clip((there - NOISE_ENERGY) / (STRUCTURE_ENERGY - NOISE_ENERGY), 0, 1)
    np.testing.assert_allclose(volume, (1 - 0.8 * (1 - known)) * slow, rtol=1e-4, atol=1e-5)


def test_quietened_noise_loses_a_share_and_structure_keeps_its_own() -> None:
    volume = noise()
    grains = np.zeros(SHAPE, dtype=bool)
    grains[10:26, 14:32, 16:34] = True
    volume[grains] *= 3.0  # what a denoiser leaves of a particle is as granular as it was
    before = volume.copy()
    quieten(volume, 0.5)
    left = volume / before
    np.testing.assert_allclose(left[15:21, 19:27, 21:29], 1.0, rtol=1e-5)
    far = gaussian_filter(grains.astype(np.float32), REACH_VOXELS, truncate=5) < 1e-6
    np.testing.assert_allclose(np.median(left[far]), 0.5, rtol=1e-5)
    assert left[far].mean() < 0.51
    again = volume.copy()
    quieten(volume, 0.0)
    np.testing.assert_array_equal(volume, again)


def test_a_quietened_dot_stays_as_wide_as_it_was() -> None:
    places = np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) // 2
    squared = (places**2).sum(axis=0)
    volume = noise() - (8.0 * np.exp(-0.5 * squared / 1.5**2)).astype(np.float32)
    before = volume.copy()
    quieten(volume, 0.6)
    left = volume[squared <= 4] / before[squared <= 4]
    assert 0.4 < left.min() < left.max() < 0.7
    assert left.max() - left.min() < 0.08
