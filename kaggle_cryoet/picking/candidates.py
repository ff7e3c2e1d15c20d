"""From a grid of scores to picks: localise each particle type, bring it to ångström, suppress what is too close."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import coarse_to_fine_index, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.localise import Points, blob_centroids, local_maxima
from kaggle_cryoet.picking.nms import suppress
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks

LEAST_CANDIDATE_SCORE = 0.05
"""Candidates of a U-Net alone that are below this, and below its thresholds, are not looked at."""


@dataclass(frozen=True, kw_only=True)
class LocaliseSettings:
    """How points are made of scores; all sizes in units of the particle's radius."""

    method: Literal["maxima", "centroids"] = "maxima"
    """Local maxima, or centroids of connected blobs."""
    maximum_radius: float = 0.5
    """Radius within which a local maximum is the highest: that of a hit in the competition's score."""
    suppression_radius: float = 1.0
    """Picks of one type closer than this to a better one are dropped. In the competition's seven training tomograms
    neighbours of one type are 1.39 radii apart or more (ribosomes; 1.48 apo-ferritin, 1.53 thyroglobulin, 1.92 the
    others), but for one apo-ferritin picked twice; the difference leaves room for errors of position."""
    minimum_blob: float = 0.02
    """Smallest blob, as a fraction of the particle's sphere: that of 0.27 radii, a third of a target of 0.4 radii."""
    blob_level: float = 0.2
    """Blobs are connected voxels above this score, whatever threshold their highest score has to pass."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.method not in ("maxima", "centroids"):
            raise InputError(f"method must be maxima or centroids, got {self.method!r}")
        if not min(self.maximum_radius, self.suppression_radius) > 0:
            raise InputError(f"radii must be positive, got {self.maximum_radius=}, {self.suppression_radius=}")
        if not (0 <= self.minimum_blob <= 1 and 0 <= self.blob_level < 1):
            raise InputError(
                f"minimum_blob and blob_level must be between 0 and 1, got {self.minimum_blob=}, {self.blob_level=}"
            )


def find_candidates(
    grid: ScoreGrid,
    *,
    voxel_angstrom: float,
    thresholds: Sequence[float],
    settings: LocaliseSettings = LocaliseSettings(),
) -> Picks:
    """Picks of every particle type, the types in the order of `PARTICLES`, the best of each first.

    A threshold may as well be applied to the scores of the picks afterwards.

    Parameters
    ----------
    grid
        Scores of a tomogram.
    voxel_angstrom
        Voxel of the tomogram, not of the grid.
    thresholds
        One for each particle type; scores must be above it.
    settings
        How the points are made.

    Raises
    ------
    InputError
        If there is not one class and one threshold for each particle type.
    """
    if not len(grid.score) == len(thresholds) == len(PARTICLES):
        raise InputError(
            f"expected {len(PARTICLES)} classes and thresholds, got {len(grid.score)} and {len(thresholds)}"
        )
    found = []
    for label, (particle, score, threshold) in enumerate(zip(PARTICLES, grid.score, thresholds, strict=True)):
        index, value = _localise(score, threshold, particle.radius_angstrom / (voxel_angstrom * grid.stride), settings)
        position = index_to_angstrom(coarse_to_fine_index(index, grid.stride), voxel_angstrom)
        kept = suppress(position, value, settings.suppression_radius * particle.radius_angstrom)
        found.append((position[kept], np.full(len(kept), label), value[kept]))
    positions, labels, scores = zip(*found, strict=True)
    return Picks(
        position_zyx_angstrom=np.concatenate(positions), label=np.concatenate(labels), score=np.concatenate(scores)
    )


def _localise(
    score: NDArray[np.floating], threshold: float, radius_voxels: float, settings: LocaliseSettings
) -> Points:
    """Points in a `(z, y, x)` score of particles with a radius in voxels of the grid."""
    if settings.method == "centroids":
        sphere_voxels = 4 / 3 * math.pi * radius_voxels**3
        index, value = blob_centroids(
            score, threshold=settings.blob_level, minimum_voxels=math.ceil(settings.minimum_blob * sphere_voxels)
        )
        return index[value > threshold], value[value > threshold]
    # less than a voxel would make every voxel a maximum
    return local_maxima(score, threshold=threshold, radius_voxels=max(settings.maximum_radius * radius_voxels, 1.0))
