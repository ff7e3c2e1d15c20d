"""Suppression: of points that lie close together, keep the best."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

CELLS_PER_POINT = 8
"""The grid of cells is coarsened until it has no more cells than this for each point."""


def suppress(position: NDArray[np.floating], score: NDArray[np.floating], radius: float) -> NDArray[np.int64]:
    """`(k,)` indices of the points that no kept point of higher score is closer to than `radius`, best first.

    Greedy: the best point is kept and those strictly closer to it than `radius` are dropped, then the best of the
    others, and so on. Equal scores go by index. A point never affects a better one: leaving out all points below some
    score before or after comes to the same.

    Parameters
    ----------
    position
        `(n, 3)` points, in the unit of `radius`.
    score
        `(n,)`, the higher the better.
    radius
        Points at exactly this distance do not suppress each other.

    Raises
    ------
    InputError
        If the radius is not positive, or there is not one score for each point.
    """
    if not radius > 0:
        raise InputError(f"the radius of suppression must be positive, got {radius}")
    if position.shape != (len(score), 3):
        raise InputError(f"expected one zyx position for each score, got {position.shape} and {score.shape}")
    if len(score) == 0:
        return np.empty(0, dtype=np.int64)
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    best_first = position[order].astype(np.float64)
    cell, cells = assign_cells(best_first, radius)
    kept: NDArray[np.int64] = _keep_greedily(best_first, cell, cells, float(radius))
    return order[kept]


def assign_cells(position: NDArray[np.float64], radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(n, 3)` cell of each point and `(3,)` numbers of cells, whose edge is larger than the radius."""
    offset = position - position.min(axis=0)
    edge = 1.001 * radius  # so that rounding never puts points within the radius two cells apart
    while math.prod(int(extent // edge) + 1 for extent in offset.max(axis=0)) > CELLS_PER_POINT * (len(offset) + 8):
        edge *= 2
    cell = (offset / edge).astype(np.int64)
    return cell, cell.max(axis=0) + 1


@njit(cache=True, nogil=True)
def _keep_greedily(
    position: NDArray[np.float64], cell: NDArray[np.int64], cells: NDArray[np.int64], radius: float
) -> NDArray[np.int64]:
    """`(k,)` indices, ascending, of the kept ones among points sorted by falling score.

    Only kept points enter the cells, as linked lists: few fit into one, so that the time is linear.
    """
    first = np.full((cells[0], cells[1], cells[2]), -1, dtype=np.int64)
    following = np.full(len(position), -1, dtype=np.int64)
    kept = np.empty(len(position), dtype=np.int64)
    count = 0
    for i in range(len(position)):
        z, y, x = cell[i]
        free = True
        for near_z in range(max(z - 1, 0), min(z + 2, cells[0])):
            for near_y in range(max(y - 1, 0), min(y + 2, cells[1])):
                for near_x in range(max(x - 1, 0), min(x + 2, cells[2])):
                    j = first[near_z, near_y, near_x]
                    while free and j >= 0:
                        dz = position[i, 0] - position[j, 0]
                        dy = position[i, 1] - position[j, 1]
                        dx = position[i, 2] - position[j, 2]
                        free = dz * dz + dy * dy + dx * dx >= radius * radius
                        j = following[j]
        if free:
            following[i] = first[z, y, x]
            first[z, y, x] = i
            kept[count] = i
            count += 1
    return kept[:count]
