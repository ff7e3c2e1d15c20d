"""What the network shall answer: a Gaussian peak per particle, on the network's own output grid."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, fine_to_coarse_index
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Width of the peaks."""

    sigma_of_radius: float = 0.22
    """Standard deviation as a share of the particle's radius; peaks half as wide as the tolerance locate best."""
    least_sigma_angstrom: float = 14.0
    """Smallest standard deviation, so that a peak is more than one voxel of the half grid."""

    def __post_init__(self) -> None:
        """Check that both are positive."""
        if self.sigma_of_radius <= 0 or self.least_sigma_angstrom <= 0:
            raise InputError(f"widths of targets must be positive, got {self}")

    def sigma_angstrom(self, label: int) -> float:
        """Standard deviation of a class's peak in Å."""
        return max(self.sigma_of_radius * PARTICLES[label].radius_angstrom, self.least_sigma_angstrom)


@njit(cache=True)
def _draw_peaks(target, centre, label, sigma):  # type: ignore[no-untyped-def]
    """Draw the peak of each particle; where two of a class meet, the higher counts."""
    for particle in range(len(label)):
        width = sigma[label[particle]]
        reach = 3.5 * width
        low = [0, 0, 0]
        high = [0, 0, 0]
        for axis in range(3):
            low[axis] = max(int(np.ceil(centre[particle, axis] - reach)), 0)
            high[axis] = min(int(np.floor(centre[particle, axis] + reach)) + 1, target.shape[axis + 1])
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    squared = (
                        (z - centre[particle, 0]) ** 2 + (y - centre[particle, 1]) ** 2 + (x - centre[particle, 2]) ** 2
                    )
                    value = np.float32(np.exp(-0.5 * squared / (width * width)))
                    if value > target[label[particle], z, y, x]:
                        target[label[particle], z, y, x] = value


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
        True particles; those whose peaks miss the box cost nothing.
    shape_zyx
        Shape of the output grid.
    stride
        Full-resolution voxels per output voxel along each axis.
    voxel_angstrom
        Size of a full-resolution voxel.
    origin_zyx
        First full-resolution voxel of the box that the grid covers.
    settings
        Width of the peaks.
    """
    chosen = settings or TargetSettings()
    sigma = np.array([chosen.sigma_angstrom(label) for label in range(len(PARTICLES))]) / (voxel_angstrom * stride)
    index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom) - np.array(origin_zyx)
    target = np.zeros((len(PARTICLES), *shape_zyx), dtype=np.float32)
    _draw_peaks(target, fine_to_coarse_index(index, stride), picks.label, sigma)
    return target
