"""What a denoiser does by what it knows to be there: it keeps structure, and quietens the rest.

A learned denoiser looks at some voxels about each. Where these are nothing but noise it takes part of it away; where
they hold a particle it leaves the noise in it, which makes particles granular. A particle above or below a slice throws
a smooth shadow on it, since tilt images from half of all directions do not say at what height low frequencies lie. Real
denoised slices have few such shadows, while their particles are dark all over.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

BLOCK = 2
"""Energies are averaged over cubes of so many voxels before they are smoothed."""
REACH_VOXELS = 3.0
"""Standard deviation of the Gaussian by which energies are smoothed."""
MOST_ENERGY = 25.0
"""The energy of a voxel counts up to so many variances of the background, so that a speck does not outweigh noise."""
NOISE_ENERGY = 1.5
"""Smoothed energy, in variances of the background, up to which nothing is known to be there."""
STRUCTURE_ENERGY = 4.0
"""Smoothed energy from which on everything is known to be structure."""


def background_level(volume: NDArray[np.float32]) -> np.float32:
    """Median of a `(z, y, x)` volume: what is there where nothing is, whatever particles it holds."""
    return np.float32(np.median(_sample(volume)))


def background_spread(volume: NDArray[np.float32]) -> float:
    """1.4826 times the median absolute deviation of a `(z, y, x)` volume: its noise, whatever particles it holds."""
    sample = _sample(volume)
    return float(1.4826 * np.median(np.abs(sample - np.median(sample))))


def _sample(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    step = 1 if volume.size < 10**6 else 3
    return volume[::step, ::step, ::step]


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
    if not withheld:
        volume += slow
        return
    _add(volume, slow, _energy(volume), np.float32(withheld))


def quieten(volume: NDArray[np.float32], loss: float) -> None:
    """Weaken a volume, in place, where it has no structure.

    Parameters
    ----------
    volume
        `(z, y, x)`, its median about 0.
    loss
        Share of the amplitude, 0 to 1, that is taken away where the volume's energy, the mean of its square over some
        voxels about, is no more than `NOISE_ENERGY`; it falls to nothing up to `STRUCTURE_ENERGY`.
    """
    if loss:
        _weaken(volume, _energy(volume), np.float32(loss))


def _energy(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smoothed energy of each block of voxels, in variances of the background."""
    import scipy.ndimage

    energy = _block_energy(volume, np.float32(1.0 / background_spread(volume) ** 2), np.float32(MOST_ENERGY))
    scipy.ndimage.gaussian_filter(energy, REACH_VOXELS / BLOCK, output=energy, truncate=3.0)
    return np.asarray(energy)


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


@njit(cache=True, inline="always")
def _row_between(energy, z, y):  # type: ignore[no-untyped-def]
    """Energy of the blocks along x at a voxel's z and y."""
    one = np.float32(1.0)
    z0, z1, fz = _between(z, energy.shape[0])
    y0, y1, fy = _between(y, energy.shape[1])
    return (one - fz) * ((one - fy) * energy[z0, y0] + fy * energy[z0, y1]) + fz * (
        (one - fy) * energy[z1, y0] + fy * energy[z1, y1]
    )


@njit(cache=True, inline="always")
def _unknown(row, x):  # type: ignore[no-untyped-def]
    """1 where there is nothing but noise, 0 where there is structure."""
    one = np.float32(1.0)
    x0, x1, fx = _between(x, len(row))
    there = (one - fx) * row[x0] + fx * row[x1]
    known = (there - np.float32(NOISE_ENERGY)) / np.float32(STRUCTURE_ENERGY - NOISE_ENERGY)
    return one - min(max(known, np.float32(0.0)), one)


@njit(cache=True, parallel=True)
def _add(volume, slow, energy, withheld):  # type: ignore[no-untyped-def]
    for z in prange(volume.shape[0]):
        for y in range(volume.shape[1]):
            row = _row_between(energy, z, y)
            for x in range(volume.shape[2]):
                volume[z, y, x] += (np.float32(1.0) - withheld * _unknown(row, x)) * slow[z, y, x]


@njit(cache=True, parallel=True)
def _weaken(volume, energy, loss):  # type: ignore[no-untyped-def]
    for z in prange(volume.shape[0]):
        for y in range(volume.shape[1]):
            row = _row_between(energy, z, y)
            for x in range(volume.shape[2]):
                volume[z, y, x] *= np.float32(1.0) - loss * _unknown(row, x)
