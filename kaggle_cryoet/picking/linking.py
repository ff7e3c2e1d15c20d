"""Which boxes are of one particle.

Boxes that lie on top of each other are linked. A box of a sphere tells by its width how far above or below the middle
of the sphere is. In each set of linked boxes every box is taken for the middle and given the support of the others, as
far as their widths agree; it belongs to the particle of the nearest box of more support, and one that has more than all
that are near is the middle of a particle. So particles that touch come apart wherever they do, along z or in the slice.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.nms import assign_cells

TIE = 1e-6
"""Of boxes without support, as of a sphere's rim alone, the surest counts as the middle."""


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """How boxes are put together; all lengths in radii of the particle."""

    yx: float = 0.5
    """Centres in different slices that are no farther apart in y, x are linked, ..."""
    z: float = 0.8
    """... if the slices are no farther apart than this, or one follows the other among those that were looked at."""
    support: float = 0.5
    """A box that puts the middle so far away from another gives it no support; nearer, it is a parabola."""
    separation: float = 1.1
    """The middles of two particles are farther apart. Neighbours of one type are 1.39 radii apart or more, see
    `candidates`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not min(self.yx, self.z, self.support, self.separation) > 0:
            raise InputError(f"lengths must be positive, got {self}")


def assign_particles(
    position: NDArray[np.float64],
    width: NDArray[np.float64],
    confidence: NDArray[np.float64],
    step: float,
    settings: LinkSettings,
) -> NDArray[np.int64]:
    """`(n,)` number of the particle that each box belongs to, counted from 0.

    Takes a time in proportion to the boxes, as long as not too many lie on top of each other.

    Parameters
    ----------
    position
        `(n, 3)` centres of boxes of one type, zyx in radii.
    width
        `(n,)` diameters of the boxes, over that of the particle.
    confidence
        `(n,)` how much each box counts.
    step
        Distance of the slices that were looked at, in radii.
    settings
        How boxes are put together.
    """
    if len(position) == 0:
        return np.empty(0, dtype=np.int64)
    link_z = max(settings.z, 1.001 * step)
    reach = max(math.hypot(link_z, settings.yx), 1 + settings.support, settings.separation)
    cell, cells = assign_cells(position, reach)
    flat = (cell[:, 0] * cells[1] + cell[:, 1]) * cells[2] + cell[:, 2]
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(cells.prod() + 1))  # where each cell begins among the sorted boxes
    place = position[order], cell[order], cells, start
    root = _link(*place, link_z, settings.yx)
    height = np.sqrt(1 - np.minimum(width[order], 1.0) ** 2)
    support = _support(*place, height, confidence[order], root, settings.support)
    particle = np.empty(len(order), dtype=np.int64)
    particle[order] = _climb(*place, support, root, settings.separation)
    return particle


@njit(cache=True, nogil=True)
def _link(
    position: NDArray[np.float64],
    cell: NDArray[np.int64],
    cells: NDArray[np.int64],
    start: NDArray[np.int64],
    link_z: float,
    link_yx: float,
) -> NDArray[np.int64]:
    """`(n,)` a number that linked boxes, sorted by cell, have in common; `start` says where each cell begins."""
    root = np.arange(len(position))
    for i in range(len(position)):
        for near_z in range(max(cell[i, 0] - 1, 0), cell[i, 0] + 1):  # the cells after it find it themselves
            for near_y in range(max(cell[i, 1] - 1, 0), min(cell[i, 1] + 2, cells[1])):
                row = (near_z * cells[1] + near_y) * cells[2]
                first, last = max(cell[i, 2] - 1, 0), min(cell[i, 2] + 2, cells[2])
                for j in range(start[row + first], min(start[row + last], i)):
                    dy, dx = position[i, 1] - position[j, 1], position[i, 2] - position[j, 2]
                    if abs(position[i, 0] - position[j, 0]) <= link_z and dy * dy + dx * dx <= link_yx * link_yx:
                        a, b = _find(root, i), _find(root, j)
                        root[max(a, b)] = min(a, b)
    for i in range(len(position)):
        root[i] = _find(root, i)
    return root


@njit(cache=True, nogil=True)
def _find(root: NDArray[np.int64], i: int) -> int:
    """The first box of the set of one, the way to which is halved."""
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


@njit(cache=True, nogil=True)
def _support(
    position: NDArray[np.float64],
    cell: NDArray[np.int64],
    cells: NDArray[np.int64],
    start: NDArray[np.int64],
    height: NDArray[np.float64],
    confidence: NDArray[np.float64],
    root: NDArray[np.int64],
    radius: float,
) -> NDArray[np.float64]:
    """`(n,)` confidences of the linked boxes that put the middle near each; they see it `height` above or below."""
    support = TIE * confidence
    for i in range(len(position)):
        for near_z in range(max(cell[i, 0] - 1, 0), min(cell[i, 0] + 2, cells[0])):
            for near_y in range(max(cell[i, 1] - 1, 0), min(cell[i, 1] + 2, cells[1])):
                row = (near_z * cells[1] + near_y) * cells[2]
                first, last = max(cell[i, 2] - 1, 0), min(cell[i, 2] + 2, cells[2])
                for j in range(start[row + first], start[row + last]):
                    if root[j] == root[i]:
                        dz = abs(position[i, 0] - position[j, 0]) - height[j]
                        dy, dx = position[i, 1] - position[j, 1], position[i, 2] - position[j, 2]
                        distance_squared = dz * dz + dy * dy + dx * dx
                        support[i] += confidence[j] * max(1 - distance_squared / (radius * radius), 0.0)
    return support


@njit(cache=True, nogil=True)
def _climb(
    position: NDArray[np.float64],
    cell: NDArray[np.int64],
    cells: NDArray[np.int64],
    start: NDArray[np.int64],
    support: NDArray[np.float64],
    root: NDArray[np.int64],
    separation: float,
) -> NDArray[np.int64]:
    """`(n,)` number of the particle of each box: that of the nearest of more support in reach, or a new one."""
    particle = np.empty(len(position), dtype=np.int64)
    count = 0
    rank = np.empty(len(position), dtype=np.int64)
    falling = np.argsort(-support, kind="mergesort")
    rank[falling] = np.arange(len(position))
    for i in falling:
        nearest, least = -1, separation * separation
        for near_z in range(max(cell[i, 0] - 1, 0), min(cell[i, 0] + 2, cells[0])):
            for near_y in range(max(cell[i, 1] - 1, 0), min(cell[i, 1] + 2, cells[1])):
                row = (near_z * cells[1] + near_y) * cells[2]
                first, last = max(cell[i, 2] - 1, 0), min(cell[i, 2] + 2, cells[2])
                for j in range(start[row + first], start[row + last]):
                    if rank[j] < rank[i] and root[j] == root[i]:
                        dz = position[i, 0] - position[j, 0]
                        dy, dx = position[i, 1] - position[j, 1], position[i, 2] - position[j, 2]
                        distance_squared = dz * dz + dy * dy + dx * dx
                        if distance_squared <= least:
                            nearest, least = j, distance_squared
        if nearest >= 0:
            particle[i] = particle[nearest]
        else:
            particle[i] = count
            count += 1
    return particle
