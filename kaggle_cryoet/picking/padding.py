"""Borders that hold nothing: what aligning, turning and cropping leave around a tomogram, all of one value.

Such a border takes part in the grey values' scale, and its edge rings in everything that is done by Fourier transform.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray
from scipy import fft

from kaggle_cryoet.picking.normalise import HIGHEST, LOWEST, median_and_spread

logger = logging.getLogger(__name__)

LEAST_OF_FACE = 0.05
"""A value that fewer of the voxels of every outer face share is no padding."""
CHANCE_OF_FACE = 5.0
"""Nor, where a face is small, as it is of an image, one that fewer share than this over the root of their number."""
MOST_OF_MIDDLE = 0.25
"""Nor is one that more of the volume's middle holds, relative to that share, as a grey value of few bits may."""
WHOLE_FACE = 0.95
"""A face of one value but for so much is padding, whatever the middle holds, which it may reach into."""
SAMPLE_VOXELS = 200_000
"""About so many voxels of the middle are looked at."""
SCALE_VOXELS = 2_000_000
"""About so many voxels outside of padding tell the grey values' scale."""


def padded_voxels(volume: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which voxels of a `(z, y, x)` volume are padding; None if none or all are."""
    padding = padding_values(volume)
    if not padding:
        return None
    padded = _from_the_faces(np.isin(volume, padding))
    return None if padded.all() else padded


def fill_padding(volume: NDArray[np.float32], padded: NDArray[np.bool_], name: str) -> NDArray[np.float32]:
    """A `(z, y, x)` volume with noise like its own in place of `padded_voxels`, with a warning.

    The noise is the rest of the volume with random phases: it has the same spectrum, missing wedge and spread, so that
    no scale and no transform changes for it, and there is nothing to be picked in it. The same volume is filled with
    the same noise.
    """
    share = np.count_nonzero(padded) / padded.size
    values = " and ".join(f"{value:.6g}" for value in padding_values(volume))
    logger.warning("%s: %.0f %% of its voxels, about its border, are %s; taken for padding", name, 100 * share, values)
    median, spread = scale_outside(volume, padded)
    filled = volume.copy()
    filled[padded] = median
    noise = filled - np.float32(median)
    np.clip(noise, LOWEST * spread, HIGHEST * spread, out=noise)
    noise = _with_random_phases(noise)
    _, its_spread = median_and_spread(noise)
    filled[padded] += noise[padded] * np.float32(spread / its_spread if its_spread else 0.0)
    return filled


def scale_outside(volume: NDArray[np.float32], padded: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Median and spread, as `median_and_spread` has them, of the voxels that are no padding."""
    if padded is None:
        return median_and_spread(volume)
    inside = volume[~padded]
    return median_and_spread(inside[None, None, :: len(inside) // SCALE_VOXELS + 1])


def _from_the_faces(voxels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of a volume's voxels that are joined to an outer face by others, side by side."""
    import cc3d

    label = cc3d.connected_components(voxels, connectivity=6)
    at_faces = np.zeros(int(label.max()) + 1, dtype=bool)
    for face in _faces(label):
        at_faces[face.ravel()] = True
    at_faces[0] = False
    joined: NDArray[np.bool_] = at_faces[label]
    return joined


def _with_random_phases(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Noise whose spectrum is on average that of a volume, but for its scale."""
    workers = get_num_threads()
    white = np.random.default_rng(0).standard_normal(volume.shape, dtype=np.float32)
    transform = fft.rfftn(white, norm="ortho", workers=workers)
    del white
    transform *= fft.rfftn(volume, workers=workers)
    noise: NDArray[np.float32] = fft.irfftn(transform, s=volume.shape, workers=workers, overwrite_x=True)
    return noise


def padding_values(volume: NDArray[np.float32]) -> list[float]:
    """Values that voxels share in padding along the outer faces of a `(z, y, x)` volume, ascending."""
    middle = volume[tuple(slice(edge // 4, edge - edge // 4) for edge in volume.shape)]
    step = int(np.ceil((middle.size / SAMPLE_VOXELS) ** (1 / 3)))
    middle = middle[::step, ::step, ::step]
    found = set()
    for face in _faces(volume):
        values, counts = np.unique(face, return_counts=True)
        commonest = int(counts.argmax())
        share = counts[commonest] / face.size
        if share < max(LEAST_OF_FACE, CHANCE_OF_FACE / face.size**0.5):
            continue
        if share >= WHOLE_FACE or np.mean(middle == values[commonest]) <= MOST_OF_MIDDLE * share:
            found.add(float(values[commonest]))
    return sorted(found)


def _faces(volume: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The six outer faces of a volume, but for those across an axis of fewer than three voxels."""
    for axis, last in itertools.product(range(3), (0, -1)):
        if volume.shape[axis] >= 3:
            yield np.take(volume, last, axis=axis)
