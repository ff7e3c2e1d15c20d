"""Gaussian beads into a volume: the one place where density is laid down on voxels.

A voxel receives the part of each Gaussian that lies within it, not the value at its centre, so that a bead keeps its
mass and its centre however small it is beside a voxel.
"""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

CUT_SIGMAS = 3.5
"""A Gaussian ends at the first voxel border beyond this many sigmas."""

SLAB_VOXELS = 8
"""Sections that one thread fills at a time; fixed, because a result must not depend on the number of threads."""


def splat_beads(
    volume: NDArray[np.float32],
    position_voxels: NDArray[np.floating],
    mass: NDArray[np.floating],
    sigma_voxels: NDArray[np.floating] | float,
) -> None:
    """Add Gaussian beads to a volume, in place, one after the other.

    Parameters
    ----------
    volume : (z, y, x) float32, C-contiguous
        Receives mass per voxel; what falls outside it is lost.
    position_voxels : (n, 3)
        Centres, zyx, in voxel indices: the centre of the first voxel is 0.
    mass : (n,)
        The sum over voxels of each bead, if it lies whole within the volume.
    sigma_voxels : (n,) or float
        Standard deviation of each bead.

    Raises
    ------
    ValueError
        If the volume cannot be written in place, or the arrays do not fit each other.
    """
    _splat(volume, *_checked(volume, position_voxels, mass, sigma_voxels))


def splat_many(
    volume: NDArray[np.float32],
    position_voxels: NDArray[np.floating],
    mass: NDArray[np.floating],
    sigma_voxels: NDArray[np.floating] | float,
) -> None:
    """Do what `splat_beads` does, to the last bit, on all threads that numba may use.

    Each thread fills slabs of sections of its own, and takes the beads that touch a slab in the order given: no two
    threads write one voxel, and the order of summation in a voxel is that of the beads.
    """
    position, bead_mass, sigma = _checked(volume, position_voxels, mass, sigma_voxels)
    start, member = _beads_by_slab(position, sigma, volume.shape[0])
    _splat_slabs(volume, position, bead_mass, sigma, start, member)


def _checked(
    volume: NDArray[np.float32],
    position_voxels: NDArray[np.floating],
    mass: NDArray[np.floating],
    sigma_voxels: NDArray[np.floating] | float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`(n, 3)` positions, `(n,)` masses, `(n,)` sigmas as contiguous float64."""
    if volume.ndim != 3 or volume.dtype != np.float32 or not volume.flags.c_contiguous:
        raise ValueError(f"expected a C-contiguous float32 (z, y, x) volume, got {volume.dtype} {volume.shape}")
    position = np.ascontiguousarray(position_voxels, dtype=np.float64)
    bead_mass = np.ascontiguousarray(mass, dtype=np.float64)
    if position.ndim != 2 or position.shape[1] != 3 or bead_mass.shape != position.shape[:1]:
        raise ValueError(f"expected (n, 3) positions and (n,) masses, got {position.shape} and {bead_mass.shape}")
    sigma = np.ascontiguousarray(np.broadcast_to(np.asarray(sigma_voxels, dtype=np.float64), bead_mass.shape))
    if not (np.isfinite(position).all() and np.isfinite(bead_mass).all() and (sigma > 0).all()):
        raise ValueError("expected finite positions and masses, and sigmas above 0")
    return position, bead_mass, sigma


@njit(cache=True)
def _first_and_last(position: float, sigma: float) -> tuple[int, int]:
    """First and last voxel index of a bead along one axis, volume borders not considered."""
    reach = CUT_SIGMAS * sigma
    return math.floor(position - reach + 0.5), math.ceil(position + reach - 0.5)


@njit(cache=True)
def _axis_share(share: NDArray[np.float64], position: float, sigma: float) -> tuple[int, int]:
    """Fill `share` with the part of a 1D Gaussian in each voxel from the first to the last, which sum to 1."""
    first, last = _first_and_last(position, sigma)
    scale = 1.0 / (math.sqrt(2.0) * sigma)
    left = lowest = math.erf((first - 0.5 - position) * scale)
    for index in range(first, last + 1):
        right = math.erf((index + 0.5 - position) * scale)
        share[index - first] = right - left
        left = right
    share[: last - first + 1] /= left - lowest
    return first, last


@njit(cache=True)
def _share_buffer(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(3, m)` room for the shares of the widest bead along the three axes."""
    widest = 0.0
    for bead in range(len(sigma)):
        widest = max(widest, sigma[bead])
    return np.empty((3, 2 * math.ceil(CUT_SIGMAS * widest) + 3))


@njit(cache=True)
def _add_bead(
    volume: NDArray[np.float32],
    z_start: int,
    z_stop: int,
    position: NDArray[np.float64],
    mass: float,
    sigma: float,
    share: NDArray[np.float64],
) -> None:
    """Add one bead to the sections `z_start` to `z_stop - 1` of the volume."""
    z_first, z_last = _first_and_last(position[0], sigma)
    if z_last < z_start or z_first >= z_stop:
        return
    _axis_share(share[0], position[0], sigma)
    y_first, y_last = _axis_share(share[1], position[1], sigma)
    x_first, x_last = _axis_share(share[2], position[2], sigma)
    for z in range(max(z_first, z_start), min(z_last + 1, z_stop)):
        mass_z = mass * share[0, z - z_first]
        for y in range(max(y_first, 0), min(y_last + 1, volume.shape[1])):
            mass_zy = mass_z * share[1, y - y_first]
            for x in range(max(x_first, 0), min(x_last + 1, volume.shape[2])):
                volume[z, y, x] += np.float32(mass_zy * share[2, x - x_first])


@njit(cache=True)
def _splat(
    volume: NDArray[np.float32],
    position: NDArray[np.float64],
    mass: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> None:
    share = _share_buffer(sigma)
    for bead in range(len(mass)):
        _add_bead(volume, 0, volume.shape[0], position[bead], mass[bead], sigma[bead], share)


@njit(cache=True)
def _beads_by_slab(
    position: NDArray[np.float64], sigma: NDArray[np.float64], sections: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(slabs + 1,)` offsets into `(m,)` bead indices: slab s is touched by `member[start[s] : start[s + 1]]`.

    A counting sort, so that the beads of a slab stay in the order given; a bead on a border is in both slabs.
    """
    slabs = (sections + SLAB_VOXELS - 1) // SLAB_VOXELS
    start = np.zeros(slabs + 1, np.int64)
    for bead in range(len(sigma)):
        first, last = _first_and_last(position[bead, 0], sigma[bead])
        for slab in range(max(first // SLAB_VOXELS, 0), min(last // SLAB_VOXELS + 1, slabs)):
            start[slab + 1] += 1
    start = np.cumsum(start)
    filled = start[:-1].copy()
    member = np.empty(start[-1], np.int64)
    for bead in range(len(sigma)):
        first, last = _first_and_last(position[bead, 0], sigma[bead])
        for slab in range(max(first // SLAB_VOXELS, 0), min(last // SLAB_VOXELS + 1, slabs)):
            member[filled[slab]] = bead
            filled[slab] += 1
    return start, member


@njit(cache=True, parallel=True)
def _splat_slabs(
    volume: NDArray[np.float32],
    position: NDArray[np.float64],
    mass: NDArray[np.float64],
    sigma: NDArray[np.float64],
    start: NDArray[np.int64],
    member: NDArray[np.int64],
) -> None:
    for slab in prange(len(start) - 1):
        z_start = slab * SLAB_VOXELS
        z_stop = min(z_start + SLAB_VOXELS, volume.shape[0])
        share = _share_buffer(sigma)
        for entry in range(start[slab], start[slab + 1]):
            bead = member[entry]
            _add_bead(volume, z_start, z_stop, position[bead], mass[bead], sigma[bead], share)
