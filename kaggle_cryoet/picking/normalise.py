"""Bring a tomogram's grey values to one scale: once for the whole volume, never per window."""

import math

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

LOWEST, HIGHEST = -12.0, 8.0
"""Bounds of normalised values. Particles are dark, hence the deeper lower side; gold beads reach further."""

SAMPLE_VOXELS = 2_000_000
"""The median and the spread of more voxels than this are taken from an even subsample."""


def normalise(volume: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float32]:
    """`(z, y, x)` float32 volume with median 0 and spread 1, clipped to `LOWEST` and `HIGHEST`.

    The spread is half the distance between the 15.87 and the 84.13 percentile: the standard deviation, were the values
    normal. Unlike mean and standard deviation, neither gold nor crowded particles move it. If more than two thirds of
    the voxels have one value (a masked volume), the standard deviation is used. The argument is left as it was.

    Raises
    ------
    InputError
        If the volume is not three-dimensional, is empty, is constant or holds NaN or infinity.
    """
    if volume.ndim != 3 or volume.size == 0:
        raise InputError(f"expected a volume with the axes z, y, x, got the shape {volume.shape}")
    if not np.isfinite(volume.sum(dtype=np.float64)):  # one pass without a temporary array
        raise InputError("the volume holds NaN or infinite values; expected finite grey values")
    median, spread = median_and_spread(volume)
    if spread == 0:
        raise InputError(f"the volume is constant: all {volume.size} voxels are {volume.flat[0]}")
    normalised: NDArray[np.float32] = np.subtract(volume, np.float32(median), dtype=np.float32)
    normalised /= np.float32(spread)
    np.clip(normalised, LOWEST, HIGHEST, out=normalised)
    return normalised


def median_and_spread(volume: NDArray[np.floating] | NDArray[np.integer]) -> tuple[float, float]:
    """What `normalise` takes for 0 and for 1; the latter is 0 if the volume is constant."""
    step = math.ceil((volume.size / SAMPLE_VOXELS) ** (1 / 3))
    low, median, high = np.quantile(volume[::step, ::step, ::step].astype(np.float64), [0.1587, 0.5, 0.8413])
    return float(median), float((high - low) / 2) or _standard_deviation(volume)


def _standard_deviation(volume: NDArray[np.floating] | NDArray[np.integer]) -> float:
    """Standard deviation, slice by slice for the sake of memory; exactly 0 if the volume is constant."""
    if volume.min() == volume.max():
        return 0.0
    mean = volume.mean(dtype=np.float64)
    return math.sqrt(np.mean([np.mean((section - mean) ** 2) for section in volume]))
