"""`Picks`: the centres of particles in one tomogram."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, reverse_axes, reverse_rotation_axes
from kaggle_cryoet.particles import PARTICLES

logger = logging.getLogger(__name__)

LEAST_TOLD = 5
"""Of fewer picks nothing is said of where they lie."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picks:
    """Particle centres of one tomogram, found or true."""

    position_zyx_angstrom: NDArray[np.float64]
    """`(n, 3)` centres, z y x, in Å."""
    label: NDArray[np.int64]
    """`(n,)` index of each particle's type in `PARTICLES`."""
    score: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """`(n,)` confidence, the higher the surer; ones if not given."""
    orientation_zyx: NDArray[np.float64] | None = None
    """`(n, 3, 3)` rotations from the reference structure into the tomogram, acting on zyx columns; NaN where unknown,
    None if all are."""

    def __post_init__(self) -> None:
        """Bring the arrays to their types and check that they fit together."""
        position = np.asarray(self.position_zyx_angstrom, dtype=np.float64).reshape(-1, 3)
        label = np.asarray(self.label, dtype=np.int64).reshape(-1)
        score = np.asarray(self.score, dtype=np.float64).reshape(-1)
        if score.size == 0:
            score = np.ones(len(label))
        if not len(position) == len(label) == len(score):
            raise InputError(f"picks need one label and one score each: {len(position)=}, {len(label)=}, {len(score)=}")
        if not np.isfinite(position).all():
            raise InputError(
                f"{int((~np.isfinite(position)).any(axis=1).sum())} picks have a position that is not finite"
            )
        if len(label) and (label.min() < 0 or label.max() >= len(PARTICLES)):
            raise InputError(f"labels run from 0 to {len(PARTICLES) - 1}, got {label.min()} to {label.max()}")
        object.__setattr__(self, "position_zyx_angstrom", position)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "score", score)
        if self.orientation_zyx is not None:
            orientation = np.asarray(self.orientation_zyx, dtype=np.float64)
            if orientation.shape != (len(label), 3, 3):
                raise InputError(f"orientations must be of shape {(len(label), 3, 3)}, got {orientation.shape}")
            object.__setattr__(self, "orientation_zyx", orientation)

    def __len__(self) -> int:
        """Return the number of picks."""
        return len(self.label)

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Picks":
        """The picks at the given indices or where the mask is true."""
        return Picks(
            position_zyx_angstrom=self.position_zyx_angstrom[index],
            label=self.label[index],
            score=self.score[index],
            orientation_zyx=None if self.orientation_zyx is None else self.orientation_zyx[index],
        )

    def with_y_and_x_exchanged(self) -> "Picks":
        """The same particles in the tomogram's mirror image, in which no orientation is known."""
        return Picks(position_zyx_angstrom=self.position_zyx_angstrom[:, [0, 2, 1]], label=self.label, score=self.score)


NO_PICKS = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))


def concatenate(parts: Sequence[Picks]) -> Picks:
    """All picks of the parts in their order; with orientations if every part that is not empty has them."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return NO_PICKS
    orientations = [part.orientation_zyx for part in parts if part.orientation_zyx is not None]
    return Picks(
        position_zyx_angstrom=np.concatenate([part.position_zyx_angstrom for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        orientation_zyx=np.concatenate(orientations) if len(orientations) == len(parts) else None,
    )


def check_inside(
    picks: Picks, shape_zyx: tuple[int, int, int], voxel_angstrom: float, what: str, *, cut_voxels: int = 0
) -> None:
    """Raise if a pick lies outside the voxels of a volume; `what` names the picks in the message.

    So many voxels may have been cut off at the end of each axis. It is said if picks seem to be given in voxels.

    Raises
    ------
    InputError
        With the number of such picks and the first of them.
    """
    index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)
    outside = ((index < -0.5) | (index > np.array(shape_zyx) + cut_voxels - 0.5)).any(axis=1)
    if outside.any():
        first = picks.position_zyx_angstrom[outside][0].round(3).tolist()
        raise InputError(
            f"{what}: {int(outside.sum())} of {len(picks)} picks lie outside the volume of {shape_zyx} voxels of "
            f"{voxel_angstrom} Å, the first at z, y, x = {first} Å"
        )
    in_corner = (picks.position_zyx_angstrom < np.array(shape_zyx)).all()
    if len(picks) >= LEAST_TOLD and voxel_angstrom > 2 and in_corner:
        logger.warning(
            "%s: all %d picks lie in one corner of the volume; are they in voxels? expected ångström", what, len(picks)
        )


def picks_of_one_type(
    position_xyz: NDArray[np.float64], rotation_xyz: NDArray[np.float64] | None, label: int, path: Path
) -> Picks:
    """Picks of a file with `(n, 3)` positions in Å and `(n, 3, 3)` rotations, None if they are not known.

    Raises
    ------
    InputError
        If a position is not finite or a rotation is none. The message names the file.
    """
    count = len(position_xyz)
    not_finite = ~np.isfinite(position_xyz).all(axis=1)
    if not_finite.any():
        raise InputError(f"{path}: {int(not_finite.sum())} of {count} points have a location that is not finite")
    if rotation_xyz is None:
        rotation_xyz = np.full((count, 3, 3), np.nan)
    else:
        squares = rotation_xyz @ rotation_xyz.swapaxes(1, 2)
        is_rotation = np.asarray(np.isclose(squares, np.eye(3), atol=1e-3).all(axis=(1, 2)))
        is_rotation[is_rotation] = np.linalg.det(rotation_xyz[is_rotation]) > 0
        if not is_rotation.all():
            raise InputError(f"{path}: {int((~is_rotation).sum())} of {count} points are turned by what is no rotation")
    return Picks(
        position_zyx_angstrom=reverse_axes(position_xyz),
        label=np.full(count, label),
        orientation_zyx=reverse_rotation_axes(rotation_xyz),
    )


def picks_of_types(parts: Sequence[Picks]) -> Picks:
    """All picks of the parts, without orientations if none is known to be other than the identity."""
    picks = concatenate(parts)
    orientation = picks.orientation_zyx
    if orientation is None or not (np.isnan(orientation) | (orientation == np.eye(3))).all():
        return picks
    return Picks(position_zyx_angstrom=picks.position_zyx_angstrom, label=picks.label, score=picks.score)
