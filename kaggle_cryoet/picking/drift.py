"""Grey values that drift across a tomogram, as uneven ice, illumination and some reconstructions make them.

The networks have hardly seen that. It takes part in the grey values' scale, and goes along single axes, so that no
change of the radial spectrum takes it away.
"""

import itertools
import logging

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.picking.normalise import HIGHEST, LOWEST, median_and_spread

logger = logging.getLogger(__name__)

LEAST_DRIFT = 0.3
"""Spreads of grey values, root mean square, up to which a tomogram is left as it is, as the competition's are."""
LEAST_EDGE_ANGSTROM = 1000.0
"""Volumes with a shorter edge along y or x are too small for particles to be told from a drift."""
BLOCK_ANGSTROM = 80.0
"""Edge of the blocks whose means are looked at."""
SMOOTHING_ANGSTROM = 400.0
"""Standard deviation of the Gaussian that tells what is slow from what is not."""


def without_drift(volume: NDArray[np.float32], voxel_angstrom: float, name: str) -> NDArray[np.float32]:
    """A `(z, y, x)` volume less its drift, the mean of which stays; itself if that is within `LEAST_DRIFT`.

    The drift is the polynomial of second order that fits the means of blocks best, and what is left of them smoothed.
    Values count no further than `normalise` lets them.
    """
    if min(volume.shape[1:]) * voxel_angstrom < LEAST_EDGE_ANGSTROM:
        return volume
    block = max(round(BLOCK_ANGSTROM / voxel_angstrom), 1)
    median, spread = median_and_spread(volume)
    means = _block_means(volume, block, (median + LOWEST * spread, median + HIGHEST * spread))
    drift = _slow(means, [_middles(edge, block) for edge in volume.shape])
    strength = float(drift.std())
    if strength <= LEAST_DRIFT * spread:
        return volume
    logger.info("%s: its grey values drift by %.2g spreads across it, which is taken away", name, strength / spread)
    weight_z, weight_y, weight_x = (_between_blocks(edge, block) for edge in volume.shape)
    drift -= np.einsum("zyx,z,y,x", drift, *(weight.mean(axis=0) for weight in (weight_z, weight_y, weight_x)))
    along_y, along_x = weight_y.astype(np.float32), weight_x.T.astype(np.float32)
    level = np.empty_like(volume)
    for section, weight, made in zip(volume, weight_z, level, strict=True):
        np.subtract(section, along_y @ np.tensordot(weight, drift, axes=1).astype(np.float32) @ along_x, out=made)
    return level


def _block_means(volume: NDArray[np.float32], block: int, bounds: tuple[float, float]) -> NDArray[np.float64]:
    """Means of cubes of `block` voxels, the last along each axis less, of values that count no further than bounds."""
    depth, height, width = (np.arange(0, edge, block) for edge in volume.shape)
    voxels = np.outer(np.diff([*height, volume.shape[1]]), np.diff([*width, volume.shape[2]]))
    means = []
    for z in depth:
        section = volume[z : z + block].clip(*bounds).mean(axis=0)
        rows = np.add.reduceat(section, height, axis=0, dtype=np.float64)
        means.append(np.add.reduceat(rows, width, axis=1) / voxels)
    return np.array(means)


def _middles(edge: int, block: int) -> NDArray[np.float64]:
    """Middles of the blocks along an axis, in voxels from the first voxel's."""
    first = np.arange(0, edge, block)
    return (first + np.minimum(first + block, edge) - 1) / 2


def _slow(means: NDArray[np.float64], middles: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What of the means of blocks is slow."""
    from scipy.ndimage import gaussian_filter

    axes = [(middle - middle.mean()) / max(np.ptp(middle), 1.0) for middle in middles]
    zyx = [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]
    terms = [np.ones(means.size), *zyx, *(a * b for a, b in itertools.combinations_with_replacement(zyx, 2))]
    matrix = np.stack(terms, axis=1)
    fit = (matrix @ np.linalg.lstsq(matrix, means.ravel())[0]).reshape(means.shape)
    return fit + gaussian_filter(means - fit, SMOOTHING_ANGSTROM / BLOCK_ANGSTROM, mode="reflect")


def _between_blocks(edge: int, block: int) -> NDArray[np.float64]:
    """`(edge, blocks)` weights of the blocks at each voxel: linear between their middles, and straight on beyond."""
    middle = _middles(edge, block)
    if len(middle) == 1:
        return np.ones((edge, 1))
    voxel = np.arange(edge)
    below = np.clip(np.searchsorted(middle, voxel) - 1, 0, len(middle) - 2)
    share = (voxel - middle[below]) / (middle[below + 1] - middle[below])
    weight = np.zeros((edge, len(middle)))
    weight[voxel, below] = 1 - share
    weight[voxel, below + 1] = share
    return weight
