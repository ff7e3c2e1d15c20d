"""What the network shall answer: a Gaussian peak or a sphere per particle, on the network's own output grid."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, fine_to_coarse_index
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks

REACH_SIGMA = 3.5
"""Peaks are cut so many standard deviations away."""


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Form and width of what stands for a particle."""

    shape: Literal["peak", "sphere"] = "peak"
    """A Gaussian with 1 at the particle's centre, or ones within a radius and zeros beyond."""
    sigma_of_radius: float = 0.22
    """Standard deviation of a peak as a share of the particle's radius; peaks half as wide as the tolerance locate
    best."""
    least_sigma_angstrom: float = 14.0
    """Smallest standard deviation, so that a peak is more than one voxel of the half grid."""
    sphere_of_radius: float = 0.5
    """Radius of a sphere as a share of the particle's radius. Neighbours of one type are 1.39 radii apart or more, so
    that spheres of up to 0.69 do not touch. A sphere has one voxel at least: a small share is single voxels."""

    def __post_init__(self) -> None:
        """Check the shape, and that all widths are positive."""
        if self.shape not in ("peak", "sphere"):
            raise InputError(f"targets are of the shape peak or sphere, got {self.shape!r}")
        if min(self.sigma_of_radius, self.least_sigma_angstrom, self.sphere_of_radius) <= 0:
            raise InputError(f"widths of targets must be positive, got {self}")

    def sigma_angstrom(self, label: int) -> float:
        """Standard deviation of a class's peak in Å."""
        return max(self.sigma_of_radius * PARTICLES[label].radius_angstrom, self.least_sigma_angstrom)

    def sphere_angstrom(self, label: int) -> float:
        """Radius of a class's sphere in Å."""
        return self.sphere_of_radius * PARTICLES[label].radius_angstrom

    def volume_voxels(self, label: int, grid_angstrom: float) -> float:
        """Sum of one particle's target over a grid whose voxels have an edge in Å."""
        if self.shape == "sphere":
            return float(max(4 / 3 * np.pi * (self.sphere_angstrom(label) / grid_angstrom) ** 3, 1.0))
        return float((2 * np.pi) ** 1.5 * (self.sigma_angstrom(label) / grid_angstrom) ** 3)


@njit(cache=True)
def _draw(target, centre, label, width, reach, sphere):  # type: ignore[no-untyped-def]
    """Draw the target of each particle, all lengths in voxels; where two of a class meet, the higher counts."""
    for particle in range(len(label)):
        at = label[particle]
        low = [0, 0, 0]
        high = [0, 0, 0]
        nearest = np.zeros(3)
        for axis in range(3):
            nearest[axis] = np.floor(centre[particle, axis] + 0.5)
            low[axis] = max(int(min(np.ceil(centre[particle, axis] - reach[at]), nearest[axis])), 0)
            last = int(max(np.floor(centre[particle, axis] + reach[at]), nearest[axis]))
            high[axis] = min(last + 1, target.shape[axis + 1])
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    squared = (
                        (z - centre[particle, 0]) ** 2 + (y - centre[particle, 1]) ** 2 + (x - centre[particle, 2]) ** 2
                    )
                    if sphere:
                        is_nearest = z == nearest[0] and y == nearest[1] and x == nearest[2]
                        value = np.float32(1.0 if squared <= width[at] ** 2 or is_nearest else 0.0)
                    else:
                        value = np.float32(np.exp(-0.5 * squared / (width[at] * width[at])))
                    if value > target[at, z, y, x]:
                        target[at, z, y, x] = value


def draw_targets(
    picks: Picks,
    *,
    shape_zyx: tuple[int, int, int],
    stride: int,
    voxel_angstrom: float,
    origin_zyx: tuple[int, int, int] = (0, 0, 0),
    settings: TargetSettings | None = None,
) -> NDArray[np.float32]:
    """`(class, z, y, x)` targets between 0 and 1.

    Parameters
    ----------
    picks
        True particles; those whose targets miss the box cost nothing.
    shape_zyx
        Shape of the output grid.
    stride
        Full-resolution voxels per output voxel along each axis.
    voxel_angstrom
        Size of a full-resolution voxel.
    origin_zyx
        First full-resolution voxel of the box that the grid covers.
    settings
        Form and width of the targets.
    """
    chosen = settings or TargetSettings()
    sphere = chosen.shape == "sphere"
    width_angstrom = [(chosen.sphere_angstrom if sphere else chosen.sigma_angstrom)(i) for i in range(len(PARTICLES))]
    width = np.array(width_angstrom) / (voxel_angstrom * stride)
    index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom) - np.array(origin_zyx)
    target = np.zeros((len(PARTICLES), *shape_zyx), dtype=np.float32)
    reach = width if sphere else REACH_SIGMA * width
    _draw(target, fine_to_coarse_index(index, stride), picks.label, width, reach, sphere)
    return target
