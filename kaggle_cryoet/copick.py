"""The copick JSON that holds the picks of a run on disk: a folder with a file for each type of particle.

Source: copick, https://copick.github.io/copick, and the files of the competition.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import reverse_axes, reverse_rotation_axes
from kaggle_cryoet.particles import PARTICLE_NAMES, label_called
from kaggle_cryoet.picks import Picks, picks_of_one_type, picks_of_types

logger = logging.getLogger(__name__)

CURATOR = "curation"
"""Who signs the competition's picks."""
USER_ID = "kaggle-cryoet"
"""Who signs copick files of what this program found."""


def read_copick(picks_directory: str | Path) -> Picks:
    """Picks of one run from its folder of copick JSON files, one for each particle type, with score 1.

    Of what type they are says `pickable_object_name` in them, or else their names, `<particle>.json` or
    `<user>_<session>_<particle>.json`, as `label_called` knows them; files of other types are left out with a warning,
    hidden files without. A particle is at its location, moved as its transformation says. Orientations of a file that
    does not trust them are unknown, and those of all files if none is other than the identity, as in the
    competition's. What this program found itself is left out with a warning, unless there is nothing else.

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
        name = _object_name(content, file)
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
    return picks_of_types([found[label][1] for label in sorted(found)])


def holds_copick(directory: Path) -> bool:
    """Whether there are files of picks in a folder itself."""
    for file in directory.glob("[!.]*.json"):
        try:
            if "points" in _read_copick_file(file):
                return True
        except InputError:
            continue
    return False


def holds_files_of_others(directory: Path) -> bool:
    """Whether a folder, which need not be there, has copick files, or else any files, that are not this program's."""
    files = list(directory.glob("[!.]*"))
    return not all(map(_is_prediction, [file for file in files if file.suffix == ".json"] or files))


def holds_known_copick(directory: Path) -> bool:
    """Whether a folder holds a file of a particle that is known, not of what this program found, or a broken one."""
    for file in directory.glob("[!.]*.json"):
        try:
            if not _is_prediction(file) and label_called(_object_name(_read_copick_file(file), file)) is not None:
                return True
        except InputError:
            return True
    return False


def _is_prediction(file: Path) -> bool:
    """Whether a copick file is of this program, by its name, `<user>_<session>_<particle>.json`."""
    return file.name.startswith(f"{USER_ID}_")


def _read_copick_file(path: Path) -> dict[str, Any]:
    """What a file holds."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a copick picks file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a copick picks file: expected an object, got {type(content).__name__}")
    return content


def _object_name(content: dict[str, Any], path: Path) -> str:
    """What a file says that it is of; else its name, or the third part of `<user>_<session>_<particle>`."""
    parts = path.stem.split("_", 2)
    by_name = parts[2] if len(parts) == 3 and label_called(path.stem) is None else path.stem
    return str(content.get("pickable_object_name") or by_name)


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
    except (ValueError, AttributeError, KeyError, TypeError, OverflowError) as error:
        said = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a copick picks file: {said}") from error
    trusted = content.get("trust_orientation") is not False
    return picks_of_one_type(position_xyz, transform_xyz[:, :3, :3] if trusted else None, label, path)


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
