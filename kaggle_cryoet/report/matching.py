"""Which found particles are hits, which true ones are missed, and which types are taken for which.

The reach of a hit is that of the score: half the particle's radius, see `kaggle_cryoet.metric`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.metric import HIT_FRACTION_OF_RADIUS
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """Hits among the found and among the true particles of one tomogram."""

    found_is_hit: NDArray[np.bool_]
    """`(n,)` whether each found particle is the one that stands for a true one; the others are false positives."""
    truth_is_hit: NDArray[np.bool_]
    """`(m,)` whether each true particle has a found one of its type in reach; the others are missed."""


def match(found: Picks, truth: Picks) -> Matching:
    """Hits by the rule of the score.

    The true particles that are hit are those that the score counts. Of several found particles near a true one only
    one is its hit: found and true particles are paired one to one, in as many pairs as there can be, and of these in
    the closest. So there are as many false positives as the score counts, except that the score takes one off for each
    further true particle that a found one hits.
    """
    near, distance = _distances(found, truth, same_type=True)
    found_is_hit = np.zeros(len(found), dtype=np.bool_)
    found_is_hit[near[_pair(distance)[0]]] = True
    return Matching(found_is_hit=found_is_hit, truth_is_hit=np.any(np.isfinite(distance), axis=0))


def confusion_matrix(found: Picks, truth: Picks) -> NDArray[np.int64]:
    """`(7, 7)` numbers of particles, by true type and by found type, in the order of `PARTICLES`.

    The last row counts found particles where there is none, the last column true particles that nothing is found for.
    Particles are paired one to one: first with those of their own type, as `match` does, then what is left with any
    type that is no farther than half the larger of the two radii; each time in as many pairs as there can be, and of
    these in the closest. A row sums to the true particles of a type, a column to the found ones.
    """
    background = len(PARTICLES)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    for same_type in (True, False):
        near, distance = _distances(found, truth, same_type=same_type)
        found_index, true_index = _pair(distance)
        found_index = near[found_index]
        np.add.at(matrix, (truth.label[true_index], found.label[found_index]), 1)
        found = found.select(np.delete(np.arange(len(found)), found_index))
        truth = truth.select(np.delete(np.arange(len(truth)), true_index))
    matrix[background] += np.bincount(found.label, minlength=background + 1)
    matrix[:, background] += np.bincount(truth.label, minlength=background + 1)
    return matrix


def _distances(found: Picks, truth: Picks, *, same_type: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`(k,)` indices of found particles near true ones, and `(k, m)` distances in Å, infinite where out of reach."""
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    if not (len(found) and len(truth)):
        return np.empty(0, dtype=np.int64), np.empty((0, len(truth)))
    radius = np.array([particle.radius_angstrom for particle in PARTICLES])
    # by far the most of a great many found particles are near nothing: they are kept out of the matrix
    nearest, _ = KDTree(truth.position_zyx_angstrom).query(found.position_zyx_angstrom)
    near = np.flatnonzero(nearest <= HIT_FRACTION_OF_RADIUS * radius.max())
    label = found.label[near]
    reach = HIT_FRACTION_OF_RADIUS * np.maximum(radius[label][:, None], radius[truth.label])
    # squares are compared, as the score's k-d tree does, so that the edge of the reach is the same
    square = cdist(found.position_zyx_angstrom[near], truth.position_zyx_angstrom, "sqeuclidean")
    allowed = square <= reach**2
    if same_type:
        allowed &= label[:, None] == truth.label
    return near, np.where(allowed, np.sqrt(square), np.inf)


def _pair(distance: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the most pairs, each row and column in one at most, that have the least sum of distances."""
    from scipy.optimize import linear_sum_assignment

    reachable = np.isfinite(distance)
    # a pair out of reach costs more than any number of pairs in reach
    out_of_reach = 1.0 + distance[reachable].sum()
    row, column = linear_sum_assignment(np.where(reachable, distance, out_of_reach))
    paired = reachable[row, column]
    return row[paired].astype(np.int64), column[paired].astype(np.int64)
