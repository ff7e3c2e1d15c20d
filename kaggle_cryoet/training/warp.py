"""Crops of a volume that is turned about z and scaled: voxels between voxels, and particles moved with them.

Outside of the volume lies its mirror image. A warp is a `(3, 3)` matrix that maps steps from the middle of the crop to
steps in the volume.
"""

from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kaggle_cryoet.geometry import angstrom_to_index, index_to_angstrom
from kaggle_cryoet.picks import Picks, concatenate

Warp = NDArray[np.float64]
"""`(3, 3)` zyx."""


def warp_matrix(degrees: float, scale: float) -> Warp:
    """The warp that shows the volume turned by an angle, from y to x, and larger by a factor."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]]) / scale


def box_of(start_zyx: NDArray[np.int64], shape_zyx: NDArray[np.int64], warp: Warp) -> NDArray[np.int64]:
    """`(2, 3)` first and last voxel of a volume that a crop is made of."""
    half = (shape_zyx - 1) / 2
    reach = np.abs(warp) @ half
    return np.stack([np.floor(start_zyx + half - reach + 1e-9), np.ceil(start_zyx + half + reach - 1e-9)]).astype(int)


def read_warped(
    volume: NDArray[np.floating], start_zyx: NDArray[np.int64], shape_zyx: NDArray[np.int64], warp: Warp | None
) -> NDArray[np.float32]:
    """`(z, y, x)` crop that would begin at a voxel, by linear interpolation if there is a warp."""
    low, high = box_of(start_zyx, shape_zyx, np.eye(3) if warp is None else warp)
    box = _read_mirrored(volume, low, high)
    if warp is None:
        return box
    half = (shape_zyx - 1) / 2
    crop = np.empty(tuple(shape_zyx), dtype=np.float32)
    _interpolate(box, crop, warp, start_zyx + half - low - warp @ half)
    return crop


def crop_voxel_angstrom(voxel_angstrom: float, warp: Warp | None) -> float:
    """Edge of a crop's voxel in the specimen: smaller than the volume's if the warp makes it larger."""
    return voxel_angstrom if warp is None else float(voxel_angstrom * warp[0, 0])


def move_picks(
    picks: Picks,
    voxel_angstrom: float,
    volume_zyx: tuple[int, ...],
    start_zyx: NDArray[np.int64],
    shape_zyx: NDArray[np.int64],
    warp: Warp | None,
) -> Picks:
    """Picks of a volume, and those mirror images of them that a crop may hold, in Å from the crop's first voxel.

    `voxel_angstrom` and `volume_zyx` are of the volume; `crop_voxel_angstrom` is what the Å are to be divided by. The
    other arguments are as in `read_warped`.
    """
    low, high = box_of(start_zyx, shape_zyx, np.eye(3) if warp is None else warp)
    index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)
    for axis, size in enumerate(volume_zyx):
        last = size - 1
        images = [(1, 0)]  # sign and shift of each image
        images += [(-1, 0)] if low[axis] < 0 else []
        images += [(-1, 2 * last)] if high[axis] > last else []
        images += [(1, -2 * last)] if low[axis] < -last else []
        images += [(1, 2 * last)] if high[axis] > 2 * last else []
        along = np.concatenate([sign * index[:, axis] + shift for sign, shift in images])
        index = np.tile(index, (len(images), 1))
        index[:, axis] = along
        picks = concatenate([picks] * len(images))
    if warp is None:
        inside = index - start_zyx
    else:
        half = (shape_zyx - 1) / 2
        inside = (index - start_zyx - half) @ np.linalg.inv(warp).T + half
    return replace(picks, position_zyx_angstrom=index_to_angstrom(inside, crop_voxel_angstrom(voxel_angstrom, warp)))


def _read_mirrored(
    volume: NDArray[np.floating], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Voxels `low` to `high`, both included, of a volume that goes on as its own mirror image."""
    indices = []
    for first, last, size in zip(low, high, volume.shape, strict=True):
        period = max(2 * (size - 1), 1)
        folded = np.arange(first, last + 1) % period
        indices.append(np.minimum(folded, period - folded))
    part = volume[tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)].astype(np.float32)
    for axis, index in enumerate(indices):
        index -= index.min()
        if len(index) != part.shape[axis] or (np.diff(index) != 1).any():
            part = part.take(index, axis=axis)
    return np.ascontiguousarray(part)


@njit(cache=True, nogil=True)
def _interpolate(box, crop, warp, origin):  # type: ignore[no-untyped-def]
    """Fill a crop from a box that holds all it needs; z does not mix with y and x, the same in each section."""
    depth, height, width = box.shape
    corner = np.empty((*crop.shape[1:], 2), dtype=np.int32)
    beyond = np.empty((*crop.shape[1:], 2), dtype=np.float32)
    for y in range(crop.shape[1]):
        for x in range(crop.shape[2]):
            v = min(max(origin[1] + warp[1, 1] * y + warp[1, 2] * x, 0.0), height - 1.0)
            u = min(max(origin[2] + warp[2, 1] * y + warp[2, 2] * x, 0.0), width - 1.0)
            corner[y, x, 0], corner[y, x, 1] = int(v), int(u)
            beyond[y, x, 0], beyond[y, x, 1] = v - int(v), u - int(u)
    section = np.zeros((height + 1, width + 1), dtype=np.float32)  # what is beyond the last voxels counts nothing
    for z in range(crop.shape[0]):
        at = min(max(origin[0] + warp[0, 0] * z, 0.0), depth - 1.0)
        below = int(at)
        above = min(below + 1, depth - 1)
        share = np.float32(at - below)
        for i in range(height):
            for j in range(width):
                section[i, j] = box[below, i, j] + share * (box[above, i, j] - box[below, i, j])
        for y in range(crop.shape[1]):
            for x in range(crop.shape[2]):
                i, j = corner[y, x, 0], corner[y, x, 1]
                dv, du = beyond[y, x, 0], beyond[y, x, 1]
                upper = section[i, j] + du * (section[i, j + 1] - section[i, j])
                lower = section[i + 1, j] + du * (section[i + 1, j + 1] - section[i + 1, j])
                crop[z, y, x] = upper + dv * (lower - upper)
