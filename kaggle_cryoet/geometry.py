"""Between voxel indices and ångström, zyx and xyz, fine and coarse grids: the only place where any of it happens.

A position in ångström is index times voxel size, the centre of the first voxel being at 0, as in the competition's
picks.
"""

import numpy as np
from numpy.typing import NDArray

CZII_VOXEL_ANGSTROM = 10.012444
"""Voxel size of the competition's tomograms, from the `.zattrs` of TS_5_4; its folders say 10.000."""
CZII_SHAPE_ZYX = (184, 630, 630)
"""Shape of the competition's tomograms."""


def index_to_angstrom(index: NDArray[np.floating], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(..., 3)` positions in Å of `(..., 3)` voxel indices, in the same order of axes."""
    return np.asarray(index, dtype=np.float64) * voxel_angstrom


def angstrom_to_index(position_angstrom: NDArray[np.floating], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(..., 3)` fractional voxel indices of `(..., 3)` positions in Å, in the same order of axes."""
    return np.asarray(position_angstrom, dtype=np.float64) / voxel_angstrom


def reverse_axes(position: NDArray[np.floating]) -> NDArray[np.float64]:
    """`(..., 3)` zyx to xyz, or back."""
    return np.ascontiguousarray(np.asarray(position, dtype=np.float64)[..., ::-1])


def reverse_rotation_axes(rotation: NDArray[np.floating]) -> NDArray[np.float64]:
    """`(..., 3, 3)` rotation matrices that act on zyx columns to those that act on xyz columns, or back."""
    return np.ascontiguousarray(np.asarray(rotation, dtype=np.float64)[..., ::-1, ::-1])


def coarse_to_fine_index(index: NDArray[np.floating], stride: int) -> NDArray[np.float64]:
    """Index on the full grid of an index on a grid whose voxels are blocks of `stride`^3 full voxels.

    Voxel 0 of the coarse grid covers the full voxels 0 to stride - 1, so that its centre is at (stride - 1) / 2.
    """
    return np.asarray(index, dtype=np.float64) * stride + (stride - 1) / 2


def fine_to_coarse_index(index: NDArray[np.floating], stride: int) -> NDArray[np.float64]:
    """The inverse of `coarse_to_fine_index`."""
    return (np.asarray(index, dtype=np.float64) - (stride - 1) / 2) / stride
