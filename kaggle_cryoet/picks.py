"""`Picks`: the centres of particles in one tomogram, and the copick JSON that holds them on disk."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, reverse_axes, reverse_rotation_axes
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES, label_called

logger = logging.getLogger(__name__)

CURATOR = "curation"
"""Who signs the competition's picks."""
USER_ID = "kaggle-cryoet"
"""Who signs copick files of what this program found."""
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


def read_copick(picks_directory: str | Path) -> Picks:
    """Picks of one run from its folder of copick JSON files, one for each particle type, with score 1.

    Of what type they are says `pickable_object_name` in them, or else their names, `<particle>.json`, as `label_called`
    knows them; files of other types are left out with a warning, hidden files without. A particle is at its location,
    moved as its transformation says. Orientations of a file that does not trust them are unknown, and those of all
    files if none is other than the identity, as in the competition's. What this program found itself is left out with
    a warning, unless there is nothing else.

    Raises
    ------
    InputError
        If the folder holds no picks of `PARTICLES`, two files of one type, or a file that is broken, lacks a field, or
        has values that are not finite. The message names the file.
    """
    found: dict[int, tuple[Path, Picks]] = {}
    files = sorted(Path(picks_directory).glob("[!.]*.json"))
    labels = [file for file in files if not _is_prediction(file)]
    if 0 < len(labels) < len(files):
        logger.warning("%s: %d files of %s itself are left out", picks_directory, len(files) - len(labels), USER_ID)
    for file in labels or files:
        content = _read_copick_file(file)
        name = str(content.get("pickable_object_name") or file.stem)
        label = label_called(name)
        if label is None:
            logger.warning("%s: of %r, which is none of the particles that are known; it is left out", file, name)
        elif label in found:
            others = f"{found[label][0].name} and {file.name} both hold picks of {PARTICLE_NAMES[label]}"
            raise InputError(f"{picks_directory}: {others}; expected one file for each type")
        else:
            found[label] = file, _copick_picks(content, label, file)
    if not found:
        raise InputError(f"{picks_directory}: holds no picks; expected files <particle>.json")
    picks = concatenate([found[label][1] for label in sorted(found)])
    orientation = picks.orientation_zyx
    if orientation is None or not (np.isnan(orientation) | (orientation == np.eye(3))).all():
        return picks
    return Picks(position_zyx_angstrom=picks.position_zyx_angstrom, label=picks.label, score=picks.score)


def holds_copick(directory: Path) -> bool:
    """Whether there are files of picks in a folder itself."""
    for file in directory.glob("[!.]*.json"):
        try:
            if "points" in _read_copick_file(file):
                return True
        except InputError:
            continue
    return False


def holds_predictions_alone(directory: Path) -> bool:
    """Whether a folder holds copick files, all of what this program found."""
    files = list(directory.glob("[!.]*.json"))
    return bool(files) and all(map(_is_prediction, files))


def _is_prediction(file: Path) -> bool:
    """Whether a copick file is of this program, by its name, `<user>_<session>_<particle>.json`."""
    return file.name.startswith(f"{USER_ID}_")


def _read_copick_file(path: Path) -> dict[str, Any]:
    """What a file holds."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a copick picks file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a copick picks file: expected an object, got {type(content).__name__}")
    return content


def _copick_picks(content: dict[str, Any], label: int, path: Path) -> Picks:
    """Picks of one particle type, with orientations."""
    try:
        if content.get("unit", "angstrom") != "angstrom":
            raise InputError(f"expected positions in angstrom, got {content['unit']!r}")
        points = content["points"] or []
        position_xyz = np.array([[point["location"][axis] for axis in "xyz"] for point in points], dtype=np.float64)
        transforms = [point.get("transformation_") or np.eye(4).tolist() for point in points]
        transform_xyz = np.array(transforms, dtype=np.float64).reshape(len(points), 4, 4)
        position_xyz = position_xyz.reshape(-1, 3) + transform_xyz[:, :3, 3]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        said = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a copick picks file: {said}") from error
    trusted = content.get("trust_orientation") is not False
    return picks_of_one_type(position_xyz, transform_xyz[:, :3, :3] if trusted else None, label, path)


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
        is_rotation = np.isclose(rotation_xyz @ rotation_xyz.swapaxes(1, 2), np.eye(3), atol=1e-3).all(axis=(1, 2))
        is_rotation &= np.linalg.det(rotation_xyz) > 0
        if not is_rotation.all():
            raise InputError(f"{path}: {int((~is_rotation).sum())} of {count} points are turned by what is no rotation")
    return Picks(
        position_zyx_angstrom=reverse_axes(position_xyz),
        label=np.full(count, label),
        orientation_zyx=reverse_rotation_axes(rotation_xyz),
    )


def write_copick(picks_directory: str | Path, picks: Picks, run_name: str, *, user_id: str = CURATOR) -> None:
    """Write the copick JSON files of one run, one per particle type, be it empty.

    Those of the competition's curator have the form of the competition's, `ribosome.json`; of any other user, that of
    copick, with scores: `<user>_0_ribosome.json`. Positions are rounded to 0.001 Å, and an unknown orientation becomes
    the identity.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    directory = Path(picks_directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(PARTICLE_NAMES):
            content = _copick_content(picks.select(picks.label == label), name, run_name, user_id)
            stem = name if user_id == CURATOR else f"{user_id}_{content['session_id']}_{name}"
            (directory / f"{stem}.json").write_text(json.dumps(content), encoding="utf8")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error}") from error


def _copick_content(picks: Picks, particle_name: str, run_name: str, user_id: str) -> dict[str, Any]:
    """What the JSON file of one particle type holds, in the order of the competition's files."""
    position_xyz = reverse_axes(picks.position_zyx_angstrom).round(3)
    transform_xyz = np.tile(np.eye(4), (len(picks), 1, 1))
    known = np.zeros(len(picks), dtype=bool)
    if picks.orientation_zyx is not None:
        known[:] = np.isfinite(picks.orientation_zyx).all(axis=(1, 2))
        transform_xyz[known, :3, :3] = reverse_rotation_axes(picks.orientation_zyx[known])
    points = [
        {
            "location": dict(zip("xyz", position.tolist(), strict=True)),
            "transformation_": transform.tolist(),
            "instance_id": 0,
            **({} if user_id == CURATOR else {"score": round(score, 4)}),
        }
        for position, transform, score in zip(position_xyz, transform_xyz, picks.score.tolist(), strict=True)
    ]
    return {
        "pickable_object_name": particle_name,
        "user_id": user_id,
        "session_id": "0",
        "run_name": run_name,
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": picks.orientation_zyx is not None and bool(known.all()),
    }
