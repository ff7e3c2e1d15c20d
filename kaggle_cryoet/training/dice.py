"""The Dice coefficient of each particle type: how far the voxels that a network gives to it are the target's."""

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.targets import TargetSettings, draw_targets

SLAB = 16
"""Sections of a grid that are looked at together; targets of a whole tomogram would fill the memory."""


def count_overlap(grid: ScoreGrid, picks: Picks, voxel_angstrom: float, targets: TargetSettings) -> NDArray[np.int64]:
    """`(class, 3)` voxels of each type that are predicted, true, and both.

    A voxel is predicted to be of the type that is likelier than any other and than the background; it truly is of
    a type whose target is above a half in it.
    """
    counts = np.zeros((len(PARTICLES), 3), dtype=np.int64)
    depth, height, width = grid.score.shape[1:]
    for start in range(0, depth, SLAB):
        score = grid.score[:, start : start + SLAB].astype(np.float32)  # (class, z, y, x)
        target = draw_targets(
            picks,
            shape_zyx=(score.shape[1], height, width),
            stride=grid.stride,
            voxel_angstrom=voxel_angstrom,
            origin_zyx=(start * grid.stride, 0, 0),
            settings=targets,
        )
        best, background = score.argmax(axis=0), 1 - score.sum(axis=0)
        taken = score.max(axis=0) > background
        for label in range(len(PARTICLES)):
            predicted, true = taken & (best == label), target[label] > 0.5
            counts[label] += [predicted.sum(), true.sum(), (predicted & true).sum()]
    return counts


def dice(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(class,)` Dice coefficients of `(class, 3)` counts of voxels; NaN of a type neither predicted nor there."""
    predicted, true, both = counts.T
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / (predicted + true), dtype=np.float64)
