"""From boxes in slices to particles in 3D: the slices of one particle become one candidate."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picking.linking import LinkSettings, assign_particles
from kaggle_cryoet.picks import Picks, concatenate

WIDEST = 1.2
"""Boxes wider than this, in diameters of the particle, count as so wide."""
FARTHEST_YX = 0.5
"""Boxes farther than this from the middle of all of a particle, in radii, are left out of its centre."""
PRIOR = 0.2
"""How strongly z is held at the mean over the slices: like two boxes at 0.3 radii from it that say so."""
FARTHEST_Z = 0.7
"""How far the fit of a sphere may lead away from that mean, in radii."""


@dataclass(frozen=True, kw_only=True)
class AssociateSettings:
    """How boxes in slices become particles."""

    link: LinkSettings = field(default_factory=LinkSettings)
    """Which boxes are of one particle."""
    centre_z: Literal["sphere", "mean"] = "sphere"
    """z from the sphere that fits the diameters of the boxes best, or the mean over the slices."""
    seen_height: float = 0.85
    """Slices up to this distance from the centre, in radii, must show the particle; beyond, it is too small in them."""
    least_score: float = 0.02
    """Candidates below are dropped."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.centre_z not in ("sphere", "mean"):
            raise InputError(f"centre_z must be sphere or mean, got {self.centre_z!r}")
        if not (self.seen_height > 0 and 0 <= self.least_score <= 1):
            raise InputError(f"a height is positive, a score between 0 and 1, got {self}")


def associate(detections: Detections, voxel_angstrom: float, settings: AssociateSettings | None = None) -> Picks:
    """One candidate for each particle that shows in the boxes, by type.

    Its score says how much of the particle shows: 1 - exp(-2 s), s being the sum of the confidences, the highest of
    each slice, over the number of looked-at slices in which a sphere of its radius, cut off by the ends of the volume,
    must show.

    Parameters
    ----------
    detections
        Boxes of one tomogram.
    voxel_angstrom
        Voxel of the tomogram.
    settings
        How boxes are joined.
    """
    settings = settings or AssociateSettings()
    return concatenate(
        [_associate_type(detections, label, voxel_angstrom, settings) for label in range(len(PARTICLES))]
    )


def _associate_type(detections: Detections, label: int, voxel_angstrom: float, settings: AssociateSettings) -> Picks:
    """Candidates of one type; lengths are in its radii."""
    radius_voxels = PARTICLES[label].radius_angstrom / voxel_angstrom
    chosen = detections.label == label
    position = detections.index_zyx[chosen] / radius_voxels
    confidence = detections.confidence[chosen]
    width = np.sqrt(detections.diameter_voxels[chosen].prod(axis=1)) / (2 * radius_voxels)  # 1 at the equator
    slices = detections.slices / radius_voxels
    step = float(slices[1] - slices[0]) if len(slices) > 1 else 0.0
    particle = assign_particles(position, width, confidence, step, settings.link)
    order = np.lexsort((position[:, 0], particle))
    centre, shown = _summarise(
        position[order],
        np.minimum(width[order], WIDEST),
        confidence[order],
        particle[order],
        settings.centre_z == "sphere",
    )
    z = centre[:, 0]
    above, below = np.searchsorted(slices, [z - settings.seen_height, z + settings.seen_height])
    score = 1 - np.exp(-2 * shown / np.maximum(below - above, 1))
    picks = Picks(
        position_zyx_angstrom=index_to_angstrom(centre * radius_voxels, voxel_angstrom),
        label=np.full(len(centre), label),
        score=score,
    )
    return picks.select(score >= settings.least_score)


@njit(cache=True, nogil=True)
def _summarise(
    position: NDArray[np.float64],
    width: NDArray[np.float64],
    confidence: NDArray[np.float64],
    particle: NDArray[np.int64],
    sphere: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(m, 3)` centres and `(m,)` sums of confidence of the particles whose boxes are given, sorted by particle and z.

    Of several boxes in one slice the surest counts for the sum.
    """
    count = particle[-1] + 1 if len(particle) else 0
    centre = np.empty((count, 3))
    shown = np.zeros(count)
    last = 0
    for number in range(count):
        first = last
        while last < len(particle) and particle[last] == number:
            if last == first or position[last, 0] != position[last - 1, 0]:
                surest = 0.0
            shown[number] += max(confidence[last] - surest, 0.0)
            surest = max(confidence[last], surest)
            last += 1
        weight = confidence[first:last] * width[first:last]
        y, x = _middle(position[first:last], weight)
        dy, dx = position[first:last, 1] - y, position[first:last, 2] - x
        near = weight * (dy * dy + dx * dx <= FARTHEST_YX * FARTHEST_YX)
        if near.sum() > 0:
            y, x = _middle(position[first:last], near)
        centre[number, 1], centre[number, 2] = y, x
        centre[number, 0] = _height(position[first:last, 0], width[first:last], confidence[first:last], sphere)
    return centre, shown


@njit(cache=True, nogil=True)
def _middle(position: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    """Weighted mean of y and of x."""
    total = weight.sum()
    return (position[:, 1] * weight).sum() / total, (position[:, 2] * weight).sum() / total


@njit(cache=True, nogil=True)
def _height(z: NDArray[np.float64], width: NDArray[np.float64], confidence: NDArray[np.float64], sphere: bool) -> float:
    """Centre along z of a particle with boxes of these widths.

    The slices of a unit sphere around c have width^2 = 1 - (z - c)^2, so that width^2 + z^2 is a straight line whose
    slope is 2 c. Where the widths do not tell, c is the mean of z; where one side of the particle is missing, they do.
    """
    total = confidence.sum()
    mean: float = (confidence * z).sum() / total
    if not sphere:
        return mean
    offset = z - mean
    line = width * width + offset * offset
    middle = (confidence * line).sum() / total
    spread = (confidence * offset * offset).sum() + PRIOR * total / len(z)
    shift: float = 0.5 * (confidence * offset * (line - middle)).sum() / spread
    return mean + min(max(shift, -FARTHEST_Z), FARTHEST_Z)
