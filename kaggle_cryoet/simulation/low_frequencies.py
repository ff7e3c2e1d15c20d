"""What a denoiser gives back of the low frequencies that the contrast transfer took: there where something is sharp.

A particle above or below a slice throws a smooth shadow on it, since tilt images from half of all directions do not say
at what height low frequencies lie. Real denoised slices have few such shadows, while their particles are dark all over:
a learned denoiser darkens what it knows by its fine structure.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.denoise import background_spread

BLOCK = 2
"""Energies are averaged over cubes of so many voxels before they are smoothed."""
REACH_VOXELS = 3.0
"""Standard deviation of the Gaussian by which energies are smoothed."""
MOST_ENERGY = 25.0
"""The energy of a voxel counts up to so many variances of the background, so that a speck does not outweigh noise."""
NOISE_ENERGY = 1.5
"""Smoothed energy, in variances of the background, up to which nothing is known to be there."""
STRUCTURE_ENERGY = 4.0
"""Smoothed energy from which on everything is given back."""


def give_back(volume: NDArray[np.float32], slow: NDArray[np.float32], withheld: float) -> None:
    """Add low frequencies to a volume, in place: all of them where it has structure, less elsewhere.

    Parameters
    ----------
    volume
        `(z, y, x)`, its median about 0, without what `slow` holds.
    slow
        `(z, y, x)` low frequencies.
    withheld
        Share of them, 0 to 1, that is withheld where the volume's energy, the mean of its square over some voxels
        about, is no more than `NOISE_ENERGY`; it falls to nothing up to `STRUCTURE_ENERGY`.
    """
    import scipy.ndimage

    if not withheld:
        volume += slow
        return
    per_variance = np.float32(1.0 / background_spread(volume) ** 2)
    energy = _block_energy(volume, per_variance, np.float32(MOST_ENERGY))
    scipy.ndimage.gaussian_filter(energy, REACH_VOXELS / BLOCK, output=energy, truncate=3.0)
    _add(volume, slow, energy, np.float32(withheld), np.float32(NOISE_ENERGY), np.float32(STRUCTURE_ENERGY))


@njit(cache=True, parallel=True)
def _block_energy(volume, per_variance, most):  # type: ignore[no-untyped-def]
    """Mean of the squares, each no more than `most` variances, in cubes of `BLOCK` voxels; smaller ones at the ends."""
    nz, ny, nx = volume.shape
    shape = (-(-nz // BLOCK), -(-ny // BLOCK), -(-nx // BLOCK))
    energy = np.empty(shape, dtype=np.float32)
    for i in prange(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                total, count = np.float32(0.0), 0
                for z in range(i * BLOCK, min((i + 1) * BLOCK, nz)):
                    for y in range(j * BLOCK, min((j + 1) * BLOCK, ny)):
                        for x in range(k * BLOCK, min((k + 1) * BLOCK, nx)):
                            total += min(volume[z, y, x] * volume[z, y, x] * per_variance, most)
                            count += 1
                energy[i, j, k] = total / np.float32(count)
    return energy


@njit(cache=True, inline="always")
def _between(index, size):  # type: ignore[no-untyped-def]
    """The two blocks whose centres a voxel lies between, and the share of the second."""
    place = min(max((index - 0.5 * (BLOCK - 1)) / BLOCK, 0.0), size - 1.0)
    low = int(place)
    return low, min(low + 1, size - 1), np.float32(place - low)


@njit(cache=True, parallel=True)
def _add(volume, slow, energy, withheld, low, high):  # type: ignore[no-untyped-def]
    one = np.float32(1.0)
    for z in prange(volume.shape[0]):
        z0, z1, fz = _between(z, energy.shape[0])
        for y in range(volume.shape[1]):
            y0, y1, fy = _between(y, energy.shape[1])
            row = (one - fz) * ((one - fy) * energy[z0, y0] + fy * energy[z0, y1]) + fz * (
                (one - fy) * energy[z1, y0] + fy * energy[z1, y1]
            )
            for x in range(volume.shape[2]):
                x0, x1, fx = _between(x, energy.shape[2])
                there = (one - fx) * row[x0] + fx * row[x1]
                known = min(max((there - low) / (high - low), np.float32(0.0)), one)
                volume[z, y, x] += (one - withheld * (one - known)) * slow[z, y, x]
