"""`StoredVolume`: what every file format of tomograms is opened as, read block after block."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

Box = tuple[slice, slice, slice]
"""A part of a volume, z y x."""


@dataclass(frozen=True, kw_only=True)
class StoredVolume:
    """A volume on disk whose metadata have been checked and whose voxels have not been read."""

    shape_zyx: tuple[int, int, int]
    """Number of voxels along z, y, x; none is 0."""
    dtype: np.dtype[Any]
    """Type of the voxels on disk, a real number."""
    voxel_zyx_angstrom: tuple[float, float, float] | None
    """Voxel size as the file says it, sensible or not; None if it does not."""
    block_zyx: tuple[int, ...]
    """Shape of the blocks that are best read in one go."""
    read: Callable[[Box], NDArray[Any]]
    """The `(z, y, x)` voxels of one block; raises `InputError` if they cannot be read."""


def boxes(shape: tuple[int, int, int], step: Sequence[int]) -> Iterator[Box]:
    """The boxes of a grid of the given step, clipped at the end of each axis."""
    z, y, x = (
        [slice(start, min(start + stride, edge)) for start in range(0, edge, stride)]
        for edge, stride in zip(shape, step, strict=True)
    )
    return itertools.product(z, y, x)


def checked_shape(shape: Sequence[int], dtype: np.dtype[Any], path: Path) -> tuple[int, int, int]:
    """The shape of a volume of real numbers that is not empty."""
    if len(shape) != 3:
        raise InputError(f"{path}: expected a volume with the axes z, y, x, got shape {tuple(shape)}")
    if min(shape) <= 0:
        raise InputError(f"{path}: the volume is empty, its shape is {tuple(shape)}")
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: expected voxels that are real numbers, got {dtype}")
    return shape[0], shape[1], shape[2]
