"""The public notebook's merge of its two halves, which takes the answers of any networks, the package's own too."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.notebook_unet import blob_picks, first_class
from benchmarks.notebook_yolo import join_slices
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks, concatenate


def merge_as_notebook(
    grid: ScoreGrid, detections: Detections, *, voxel_angstrom: float, least_points: int = 1
) -> Picks:
    """Picks of a tomogram by the notebook's rules: everything but the networks.

    Parameters
    ----------
    grid
        Scores of a 3D network; the notebook's least blob is taken in voxels of the tomogram.
    detections
        Boxes of a 2D network, in every slice.
    voxel_angstrom
        Voxel of the tomogram, which the notebook uses in its U-Net half only.
    least_points
        Picks that must come together: with 1, what either half finds is kept; with 2, only what lies close to another
        pick of its type.
    """
    unet = blob_picks(first_class(grid.score), stride=grid.stride, voxel_angstrom=voxel_angstrom)
    yolo = join_slices(detections.index_zyx, detections.label, detections.confidence)
    return merge(concatenate([unet, yolo]), least_points=least_points)


def merge(picks: Picks, *, least_points: int) -> Picks:
    """One pick at the mean of each cluster of picks of one type, with the mean of their scores.

    The notebook calls DBSCAN with eps = the particle's radius. With `min_samples` of 1 or 2 a point belongs to a
    cluster as soon as another one is near, so that clusters are the connected components of "within a radius".
    """
    if least_points not in (1, 2):
        raise ValueError(f"for more than 2 points connected components are not DBSCAN, got {least_points}")
    parts = []
    for number, particle in enumerate(PARTICLES):
        chosen = picks.select(picks.label == number)
        cluster = clusters(chosen.position_zyx_angstrom, particle.radius_angstrom)
        size = np.bincount(cluster)
        means = [np.bincount(cluster, values) / size for values in (*chosen.position_zyx_angstrom.T, chosen.score)]
        kept = size >= least_points
        parts.append(
            Picks(
                position_zyx_angstrom=np.column_stack(means[:3])[kept],
                label=np.full(int(kept.sum()), number),
                score=means[3][kept],
            )
        )
    return concatenate(parts)


def clusters(position: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """`(n,)` number of the connected component of each of `(n, 3)` points, points within a radius being neighbours."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    if not len(position):
        return np.empty(0, dtype=np.int64)
    first, second = KDTree(position).query_pairs(radius, output_type="ndarray").T
    near = coo_array((np.ones(len(first)), (first, second)), shape=(len(position),) * 2)
    component: NDArray[np.int64] = connected_components(near, directed=False)[1].astype(np.int64)
    return component
