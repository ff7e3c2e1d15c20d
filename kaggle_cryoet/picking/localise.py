"""From scores to points: local maxima refined below the voxel, or centroids of blobs.

The kernels run on one thread and release the lock: numba's parallel loops do not survive a fork, as of data loaders,
nor, with some threading layers, calls from several threads.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""`(n, 3)` zyx positions in fractional voxel indices, and `(n,)` scores."""


def local_maxima(score: NDArray[np.floating], *, threshold: float, radius_voxels: float) -> Points:
    """Places where a `(z, y, x)` score is above the threshold and no score within the radius is higher.

    Of equal scores within the radius the first in the array counts, and the search for the exact place starts from
    the middle of all of them. The place is the vertex of a parabola along each axis, through the logarithms of the
    scores if they are positive, which is exact for a Gaussian; it is at most half a voxel away. The threshold only
    decides which maxima are returned: a higher one gives the same as selecting by score afterwards.

    Raises
    ------
    InputError
        If the score is not three-dimensional or the radius is less than one voxel.
    """
    if score.ndim != 3:
        raise InputError(f"expected a score with the axes z, y, x, got the shape {score.shape}")
    if not radius_voxels >= 1:
        raise InputError(f"local maxima need a radius of at least one voxel, got {radius_voxels}")
    score = np.ascontiguousarray(score, dtype=np.float32)  # numba has no float16 on the CPU
    offset = ball_offsets(radius_voxels)
    found = np.flatnonzero(_mark_maxima(score, float(threshold), offset))
    index = np.stack(np.unravel_index(found, score.shape), axis=1)
    return _refine(score, index, offset), score.reshape(-1)[found].astype(np.float64)


def blob_centroids(score: NDArray[np.floating], *, threshold: float, minimum_voxels: int) -> Points:
    """Centres of the 26-connected blobs of at least `minimum_voxels` above the threshold, and their highest scores.

    Blobs that touch become one point between them: `local_maxima` separates such.

    Raises
    ------
    InputError
        If the score is not three-dimensional.
    """
    import cc3d

    if score.ndim != 3:
        raise InputError(f"expected a score with the axes z, y, x, got the shape {score.shape}")
    labelled = cc3d.connected_components(score > threshold, connectivity=26)
    statistics = cc3d.statistics(labelled, no_slice_conversion=True)
    highest = np.full(len(statistics["voxel_counts"]), -np.inf)
    inside = np.flatnonzero(labelled)
    np.maximum.at(highest, labelled.reshape(-1)[inside], score.reshape(-1)[inside].astype(np.float64))
    large = statistics["voxel_counts"] >= minimum_voxels
    large[0] = False  # the background
    return statistics["centroids"][large].astype(np.float64), highest[large]


def ball_offsets(radius_voxels: float) -> NDArray[np.int64]:
    """`(n, 3)` steps to the voxels within a radius, nearest first, without the step of 0."""
    reach = math.floor(radius_voxels)
    offset = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    distance_squared = (offset**2).sum(axis=1)
    nearest_first = np.argsort(distance_squared, kind="stable")
    within = distance_squared[nearest_first] <= radius_voxels**2
    return np.ascontiguousarray(offset[nearest_first][within][1:], dtype=np.int64)


@njit(cache=True, nogil=True)
def _mark_maxima(score: NDArray[np.float32], threshold: float, offset: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`(z, y, x)` mask of the voxels above the threshold that nothing in the ball exceeds; of equals the first one."""
    depth, height, width = score.shape
    step = (offset[:, 0] * height + offset[:, 1]) * width + offset[:, 2]
    flat = score.ravel()
    mask = np.zeros(score.shape, dtype=np.bool_)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                value = score[z, y, x]
                if not value > threshold:
                    continue
                here = (z * height + y) * width + x
                highest = True
                for k in range(len(offset)):
                    if (
                        0 <= z + offset[k, 0] < depth
                        and 0 <= y + offset[k, 1] < height
                        and 0 <= x + offset[k, 2] < width
                    ):
                        other = flat[here + step[k]]
                        if other > value or (other == value and step[k] < 0):
                            highest = False
                            break
                mask[z, y, x] = highest
    return mask


@njit(cache=True, nogil=True)
def _refine(score: NDArray[np.float32], index: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(n, 3)` fractional indices of the maxima at the `(n, 3)` voxels."""
    position = np.empty(index.shape, dtype=np.float64)
    for i in range(len(index)):
        voxel = _middle_of_equals(score, index[i], offset)
        for axis in range(3):
            position[i, axis] = voxel[axis]
            if 0 < voxel[axis] < score.shape[axis] - 1:
                before, after = voxel.copy(), voxel.copy()
                before[axis] -= 1
                after[axis] += 1
                position[i, axis] += _vertex(
                    np.float64(score[before[0], before[1], before[2]]),
                    np.float64(score[voxel[0], voxel[1], voxel[2]]),
                    np.float64(score[after[0], after[1], after[2]]),
                )
    return position


@njit(cache=True, nogil=True)
def _middle_of_equals(
    score: NDArray[np.float32], voxel: NDArray[np.int64], offset: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`(3,)` voxel nearest to the mean of the voxels in the ball that have the score of the given one."""
    depth, height, width = score.shape
    value = score[voxel[0], voxel[1], voxel[2]]
    total = np.zeros(3)
    count = 1
    for k in range(len(offset)):
        z, y, x = voxel[0] + offset[k, 0], voxel[1] + offset[k, 1], voxel[2] + offset[k, 2]
        if 0 <= z < depth and 0 <= y < height and 0 <= x < width and score[z, y, x] == value:
            total += offset[k]
            count += 1
    return voxel + np.rint(total / count).astype(np.int64)


@njit(cache=True, nogil=True)
def _vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three values at -1, 0 and 1 is highest, between -0.5 and 0.5."""
    if before > 0 and at > 0 and after > 0:
        before, at, after = math.log(before), math.log(at), math.log(after)
    curvature = before - 2 * at + after
    if curvature >= 0:
        return 0.0
    return min(max(0.5 * (before - after) / curvature, -0.5), 0.5)
