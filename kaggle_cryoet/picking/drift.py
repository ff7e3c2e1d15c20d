"""Grey values that drift across a tomogram, as uneven ice, illumination and some reconstructions make them.

The networks have hardly seen that. It takes part in the grey values' scale, and goes along single axes, so that no
change of the radial spectrum takes it away.
"""

import itertools
import logging
import math

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.picking.normalise import HIGHEST, LOWEST
from kaggle_cryoet.picking.padding import scale_outside

logger = logging.getLogger(__name__)

LEAST_DRIFT = 0.3
"""Spreads of grey values, root mean square, up to which a tomogram is left as it is."""
LEAST_EXTENT_ANGSTROM = (200.0, 1000.0, 1000.0)
"""Along z, y and x; in smaller volumes, slices among them, particles and membranes are not told from a drift."""
BLOCK_ANGSTROM = 80.0
"""Edge of the blocks whose means are looked at."""
SMOOTHING_ANGSTROM = 400.0
"""Standard deviation of the Gaussian that tells what is slow from what is not."""


def without_drift(
    volume: NDArray[np.float32], voxel_angstrom: float, name: str, padded: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """A `(z, y, x)` volume less its drift; itself if that is within `LEAST_DRIFT`.

    The drift is the polynomial of second order that fits the means of blocks best, and what is left of them smoothed;
    its mean is 0. Values count no further than `normalise` lets them, and padded voxels neither count nor change.
    """
    extents = (edge * voxel_angstrom for edge in volume.shape)
    if any(extent < least for extent, least in zip(extents, LEAST_EXTENT_ANGSTROM, strict=True)):
        return volume
    median, spread = scale_outside(volume, padded)
    if spread == 0:
        return volume
    starts = [_starts(edge, max(round(BLOCK_ANGSTROM / voxel_angstrom), 1)) for edge in volume.shape]
    bounds = median + LOWEST * spread, median + HIGHEST * spread
    means, share = _block_means(volume, starts, bounds, padded)
    middles = [_middles(first, edge) for first, edge in zip(starts, volume.shape, strict=True)]
    drift = _slow(means, share, middles, voxel_angstrom)
    drift -= np.average(drift, weights=share)
    strength = float(np.average(drift**2, weights=share) ** 0.5 / spread)
    if strength <= LEAST_DRIFT:
        return volume
    logger.info("%s: its grey values drift by %.2g spreads across it, which is taken away", name, strength)
    along_z, along_y, along_x = (
        _between_blocks(middle, edge) for middle, edge in zip(middles, volume.shape, strict=True)
    )
    level = np.empty_like(volume)
    for section, weight, made in zip(volume, along_z, level, strict=True):
        np.subtract(section, along_y @ np.tensordot(weight, drift, axes=1).astype(np.float32) @ along_x.T, out=made)
    if padded is not None:
        np.copyto(level, volume, where=padded)
    return level


def _starts(edge: int, block: int) -> NDArray[np.int64]:
    """First voxels of blocks along an axis, all about as long."""
    count = max(round(edge / block), 1)
    return np.arange(count) * edge // count


def _middles(starts: NDArray[np.int64], edge: int) -> NDArray[np.float64]:
    """Middles of the blocks along an axis, in voxels from the middle of the first voxel."""
    middles: NDArray[np.float64] = (starts + np.append(starts[1:], edge) - 1) / 2
    return middles


def _block_means(
    volume: NDArray[np.float32],
    starts: list[NDArray[np.int64]],
    bounds: tuple[float, float],
    padded: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of blocks, of values that count no further than bounds, and the share of each that is no padding."""
    everywhere = np.ones(volume.shape[1:], np.float32)
    means, voxels = [], []
    for begin, end in itertools.pairwise([*starts[0], volume.shape[0]]):
        clipped, inside = volume[begin:end].clip(*bounds), everywhere
        if padded is not None:
            clipped[padded[begin:end]] = 0
            inside = 1 - padded[begin:end].mean(axis=0, dtype=np.float32)
        there = _sum_in_plane(inside, starts)
        means.append(_sum_in_plane(clipped.mean(axis=0), starts) / np.maximum(there, 1e-3))
        voxels.append(there * (end - begin))
    return np.array(means), np.array(voxels) / np.max(voxels)


def _sum_in_plane(plane: NDArray[np.floating], starts: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Sums of a `(y, x)` plane over blocks."""
    rows = np.add.reduceat(plane, starts[1], axis=0, dtype=np.float64)
    sums: NDArray[np.float64] = np.add.reduceat(rows, starts[2], axis=1)
    return sums


def _slow(
    means: NDArray[np.float64],
    share: NDArray[np.float64],
    middles: list[NDArray[np.float64]],
    voxel_angstrom: float,
) -> NDArray[np.float64]:
    """What of the means of blocks is slow, each counted by the share of it that is there."""
    from scipy.ndimage import gaussian_filter

    axes = [(middle - middle.mean()) / max(np.ptp(middle), 1.0) for middle in middles]
    zyx = [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]
    terms = [np.ones(means.size), *zyx, *(a * b for a, b in itertools.combinations_with_replacement(zyx, 2))]
    matrix = np.stack(terms, axis=1)
    weight = np.sqrt(share.ravel())
    fit = (matrix @ np.linalg.lstsq(matrix * weight[:, None], means.ravel() * weight)[0]).reshape(means.shape)
    lengths = [float(np.diff(middle).mean()) if len(middle) > 1 else math.inf for middle in middles]
    sigma = [SMOOTHING_ANGSTROM / voxel_angstrom / length for length in lengths]  # in blocks
    rest, there = (gaussian_filter(values, sigma, mode="reflect") for values in ((means - fit) * share, share))
    slow: NDArray[np.float64] = fit + rest / np.maximum(there, 1e-3)
    return slow


def _between_blocks(middles: NDArray[np.float64], edge: int) -> NDArray[np.float32]:
    """`(edge, blocks)` weights of the blocks at each voxel: linear between their middles, and straight on beyond."""
    if len(middles) == 1:
        return np.ones((edge, 1), np.float32)
    voxel = np.arange(edge)
    below = np.clip(np.searchsorted(middles, voxel) - 1, 0, len(middles) - 2)
    share = (voxel - middles[below]) / (middles[below + 1] - middles[below])
    weight = np.zeros((edge, len(middles)), np.float32)
    weight[voxel, below] = 1 - share
    weight[voxel, below + 1] = share
    return weight
