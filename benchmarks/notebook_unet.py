"""The U-Net half of the public YOLO + U-Net notebook, re-stated plainly.

98 windows of 96^3, each z-scored by itself, through the full-resolution U-Net in float32, averaged over 4 flips,
written over one another without blending; the first class above 0.05; 26-connected blobs of more than 200 voxels,
whatever the class.
"""

import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM, coarse_to_fine_index, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks, concatenate

WINDOW = 96
LEAST_PROBABILITY = 0.05
LARGEST_NOISE_BLOB = 200
"""In voxels of the tomogram."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-3,))


def window_starts(size: int) -> list[int]:
    """First voxels of windows side by side, the last one moved back to the edge; a shorter axis is one window."""
    starts = list(range(0, max(size - WINDOW, 0) + 1, WINDOW))
    return starts if starts[-1] + WINDOW >= size else [*starts, size - WINDOW]


def windows_of(shape_zyx: Sequence[int]) -> list[tuple[slice, ...]]:
    """All windows of a volume."""
    starts = itertools.product(*map(window_starts, shape_zyx))
    return [tuple(slice(first, first + WINDOW) for first in start) for start in starts]


def classify(
    network: Any, volume: NDArray[np.float32], *, flips: int = len(FLIPS), only: int | None = None
) -> tuple[NDArray[np.uint8], list[float]]:
    """`(z, y, x)` class of each voxel, 0 for none, and the seconds of each window; of the first `only` windows."""
    import torch

    label = np.zeros(volume.shape, dtype=np.uint8)
    seconds = []
    for box in windows_of(volume.shape)[:only]:
        started = time.perf_counter()
        window = volume[box]
        x = torch.from_numpy((window - window.mean()) / window.std())[None, None]
        with torch.inference_mode():
            probability = sum(network(x.flip(axes)).softmax(1).flip(axes) for axes in FLIPS[:flips]) / flips
        label[box] = first_class(probability[0, 1:].numpy())
        seconds.append(time.perf_counter() - started)
    return label, seconds


def first_class(score: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`(z, y, x)` number, from 1, of the first of `(class, z, y, x)` that is likely enough; 0 for none."""
    above = score > LEAST_PROBABILITY
    return np.where(above.any(axis=0), above.argmax(axis=0) + 1, 0).astype(np.uint8)


def blob_picks(label: NDArray[np.uint8], *, stride: int = 1, voxel_angstrom: float = CZII_VOXEL_ANGSTROM) -> Picks:
    """Centre of each blob that is large enough, of classes on a grid with a stride; a blob's score is 1."""
    import cc3d

    parts = []
    for number in range(len(PARTICLES)):
        statistics = cc3d.statistics(cc3d.connected_components(label == number + 1, connectivity=26))
        large = statistics["voxel_counts"] > math.floor(LARGEST_NOISE_BLOB / stride**3)
        large[0] = False  # the background
        index = coarse_to_fine_index(statistics["centroids"][large], stride)
        position = index_to_angstrom(index, voxel_angstrom)
        parts.append(Picks(position_zyx_angstrom=position, label=np.full(len(position), number)))
    return concatenate(parts)
