"""One ranked list of what the 3D U-Net and YOLO11 propose, so that each can rescue what the other misses."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, fine_to_coarse_index
from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
from kaggle_cryoet.models.odds import logit
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.nms import suppress
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks, concatenate


@dataclass(frozen=True, kw_only=True)
class FuseSettings:
    """How the candidates of both branches become one list."""

    least_unet_score: float = 0.02
    """Local maxima of the U-Net's scores above it are candidates."""
    pair_radius: float = 0.5
    """Candidates of both branches of one type, no farther apart than so many radii, are one."""
    unet_share: float = 0.75
    """Where both found it, its position is the mean of the two, of which the U-Net's counts so much."""
    least_evidence: float = 0.005
    """Scores below count as this; so does a branch that does not see the candidate at all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.pair_radius > 0 and 0 <= self.unet_share <= 1):
            raise InputError(f"a radius is positive, a share between 0 and 1, got {self}")
        if not (0 <= self.least_unet_score < 1 and 0 < self.least_evidence < 0.5):
            raise InputError(f"scores must be between 0 and 1, got {self}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What both branches propose in one tomogram."""

    picks: Picks
    """Positions and types; the scores are those that are higher of both."""
    features: NDArray[np.float64]
    """`(n, 4)`, the columns as in `FEATURES`."""


def join(
    unet: Picks, yolo: Picks, grid: ScoreGrid, voxel_angstrom: float, settings: FuseSettings | None = None
) -> Candidates:
    """Every candidate of either branch once, by type: pairs first, then the U-Net's own, then YOLO's own.

    Parameters
    ----------
    unet, yolo
        Candidates of both branches, down to low scores.
    grid
        The U-Net's scores, which are looked up where YOLO alone found something.
    voxel_angstrom
        Voxel of the tomogram.
    settings
        How they become one list.
    """
    settings = settings or FuseSettings()
    parts = [
        _join_type(
            unet.select(unet.label == label), yolo.select(yolo.label == label), grid, label, voxel_angstrom, settings
        )
        for label in range(len(PARTICLES))
    ]
    return Candidates(
        picks=concatenate([picks for picks, _ in parts]), features=np.concatenate([features for _, features in parts])
    )


def rank(candidates: Candidates, model: HybridModel, suppression_radius: float) -> Picks:
    """Candidates with probabilities as scores, without those close to better ones, the best of each type first."""
    picks = candidates.picks
    probability = model.probability(candidates.features, picks.label)
    scored = Picks(position_zyx_angstrom=picks.position_zyx_angstrom, label=picks.label, score=probability)
    return suppress_each_type(scored, suppression_radius)


def suppress_each_type(picks: Picks, radius: float) -> Picks:
    """Picks of which none is closer than so many radii to a better one of its type, the best of each type first."""
    kept = []
    for label, particle in enumerate(PARTICLES):
        chosen = np.flatnonzero(picks.label == label)
        best = suppress(picks.position_zyx_angstrom[chosen], picks.score[chosen], radius * particle.radius_angstrom)
        kept.append(chosen[best])
    return picks.select(np.concatenate(kept))


def _join_type(
    unet: Picks, yolo: Picks, grid: ScoreGrid, label: int, voxel_angstrom: float, settings: FuseSettings
) -> tuple[Picks, NDArray[np.float64]]:
    """Candidates of one type, and their features."""
    radius_angstrom = settings.pair_radius * PARTICLES[label].radius_angstrom
    first, second = pair(unet.position_zyx_angstrom, yolo.position_zyx_angstrom, radius_angstrom)
    unet_alone = np.setdiff1d(np.arange(len(unet)), first)
    yolo_alone = np.setdiff1d(np.arange(len(yolo)), second)
    share = settings.unet_share
    position = np.concatenate(
        [
            share * unet.position_zyx_angstrom[first] + (1 - share) * yolo.position_zyx_angstrom[second],
            unet.position_zyx_angstrom[unet_alone],
            yolo.position_zyx_angstrom[yolo_alone],
        ]
    )
    index = angstrom_to_index(yolo.position_zyx_angstrom[yolo_alone], voxel_angstrom)
    looked_up = highest_within(
        grid.score[label],
        fine_to_coarse_index(index, grid.stride),
        radius_angstrom / (voxel_angstrom * grid.stride),
    )
    unet_score = np.concatenate([unet.score[first], unet.score[unet_alone], looked_up])
    yolo_score = np.concatenate([yolo.score[second], np.zeros(len(unet_alone)), yolo.score[yolo_alone]])
    both, alone, other = len(first), len(unet_alone), len(yolo_alone)
    columns = {
        "unet_logit": logit(unet_score, settings.least_evidence),
        "yolo_logit": logit(yolo_score, settings.least_evidence),
        "found_by_unet": np.repeat([1.0, 1.0, 0.0], [both, alone, other]),
        "found_by_yolo": np.repeat([1.0, 0.0, 1.0], [both, alone, other]),
    }
    picks = Picks(
        position_zyx_angstrom=position,
        label=np.full(len(position), label),
        score=np.maximum(unet_score, yolo_score),
    )
    return picks, np.column_stack([columns[name] for name in FEATURES])


def pair(
    first: NDArray[np.float64], second: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of points of two sets that are one: the closest pair first, no point twice, no pair beyond the radius."""
    if not (len(first) and len(second)):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    near = KDTree(first).sparse_distance_matrix(KDTree(second), radius, output_type="ndarray")
    near = near[np.lexsort((near["j"], near["i"], near["v"]))]
    free_first, free_second = np.ones(len(first), dtype=bool), np.ones(len(second), dtype=bool)
    pairs = []
    for i, j in zip(near["i"], near["j"], strict=True):
        if free_first[i] and free_second[j]:
            free_first[i] = free_second[j] = False
            pairs.append((i, j))
    chosen = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def highest_within(
    score: NDArray[np.floating], index: NDArray[np.float64], radius_voxels: float
) -> NDArray[np.float64]:
    """`(n,)` highest value of a `(z, y, x)` score within a radius of each of `(n, 3)` places in fractional voxels.

    The voxel nearest to the place counts even if it is beyond the radius.
    """
    score = np.asarray(score, dtype=np.float32)  # numba has no float16 on the CPU
    highest: NDArray[np.float64] = _highest_within(score, np.ascontiguousarray(index), float(radius_voxels))
    return highest


@njit(cache=True, nogil=True)
def _highest_within(
    score: NDArray[np.float32], index: NDArray[np.float64], radius_voxels: float
) -> NDArray[np.float64]:
    """`(n,)` highest values; see `highest_within`."""
    highest = np.empty(len(index))
    reach = int(np.ceil(radius_voxels))
    for i in range(len(index)):
        z0 = min(max(int(np.rint(index[i, 0])), 0), score.shape[0] - 1)
        y0 = min(max(int(np.rint(index[i, 1])), 0), score.shape[1] - 1)
        x0 = min(max(int(np.rint(index[i, 2])), 0), score.shape[2] - 1)
        highest[i] = score[z0, y0, x0]
        for z in range(max(z0 - reach, 0), min(z0 + reach + 1, score.shape[0])):
            for y in range(max(y0 - reach, 0), min(y0 + reach + 1, score.shape[1])):
                for x in range(max(x0 - reach, 0), min(x0 + reach + 1, score.shape[2])):
                    dz, dy, dx = z - index[i, 0], y - index[i, 1], x - index[i, 2]
                    if dz * dz + dy * dy + dx * dx <= radius_voxels * radius_voxels:
                        highest[i] = max(highest[i], score[z, y, x])
    return highest
