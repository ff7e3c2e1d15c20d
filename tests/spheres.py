"""Boxes that a perfect or a sloppy detector would see of particles: spheres, cut by slices."""

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.boxes import best_of_overlapping
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picks import Picks

VOXEL = 10.012444


def cut_spheres(
    picks: Picks,
    slices: NDArray[np.int64],
    *,
    rng: np.random.Generator | None = None,
    jitter: float = 0.0,
    missed: float = 0.0,
) -> Detections:
    """Boxes in the slices; `jitter` is in radii, `missed` the share of boxes that are not there."""
    rng = rng or np.random.default_rng(0)
    rows = []
    for position, label in zip(picks.position_zyx_angstrom / VOXEL, picks.label, strict=True):
        radius = PARTICLES[label].radius_angstrom / VOXEL
        for z in slices[np.abs(slices - position[0]) < 0.87 * radius]:
            if rng.random() < missed:
                continue
            y, x, height, width = rng.normal(0, jitter * radius, 4)
            diameter = 2 * np.sqrt(radius**2 - (z - position[0]) ** 2)
            confidence = rng.uniform(0.2, 0.95) if jitter else 0.9
            rows.append([z, position[1] + y, position[2] + x, label, confidence, diameter + height, diameter + width])
    table = np.array(rows).reshape(-1, 7)
    half = table[:, 5:] / 2
    corners = np.hstack([table[:, 1:3] - half, table[:, 1:3] + half])
    table = table[best_of_overlapping((table[:, 0] * 6 + table[:, 3]).astype(np.int64), table[:, 4], corners, 0.5)]
    return Detections(
        index_zyx=table[:, :3],
        label=table[:, 3].astype(np.int64),
        confidence=table[:, 4],
        diameter_voxels=table[:, 5:],
        slices=slices,
    )
