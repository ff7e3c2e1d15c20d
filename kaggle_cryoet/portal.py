"""Annotations of the CryoET Data Portal: the picks that lie beside its tomograms.

`<run>/Reconstructions/VoxelSpacing<Å>/Annotations/<number>/` holds `<object>-<version>.json`, of what they are, and
`<object>-<version>_point.ndjson`, or `_orientedpoint.ndjson`, with a JSON object for each particle: its `location`, in
voxels of that spacing, and of oriented ones `xyz_rotation_matrix`.

Source: https://chanzuckerberg.github.io/cryoet-data-portal, and how copick 1.0 reads them.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import index_to_angstrom
from kaggle_cryoet.particles import PARTICLE_NAMES, label_called
from kaggle_cryoet.picks import Picks, concatenate, picks_of_one_type

logger = logging.getLogger(__name__)

ANNOTATIONS = "Annotations"
"""Name of the folder, beside `Tomograms`."""
_ORIENTED = "_orientedpoint"
_SHAPES = (_ORIENTED, "_point")
"""How names of files end that hold points, that which says more first."""


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    """One annotation of one type of particle."""

    path: Path
    label: int
    is_truth: bool
    """Of those who made it."""
    is_recommended: bool
    """By the portal's curators."""
    version: float

    def preference(self) -> tuple[bool, bool, float]:
        return self.is_truth, self.is_recommended, self.version


def holds_annotations(directory: Path) -> bool:
    """Whether there are annotations of particles that are known in a folder `Annotations`."""
    return any(_annotations(directory))


def read_annotations(directory: Path) -> Picks:
    """Picks of one run from its folder `Annotations`, with score 1, and with orientations where there are some.

    Of several annotations of one type that is taken which is marked as ground truth, then which the curators
    recommend, then of the highest version; if that leaves several, the first by its name, with a warning.

    Raises
    ------
    InputError
        If the folder is not where a voxel spacing is given, holds no annotation of `PARTICLES`, or one that is broken,
        lacks a field, or has values that are not finite. The message names the file.
    """
    try:
        voxel_angstrom = float(directory.parent.name.removeprefix("VoxelSpacing"))
    except ValueError:
        raise InputError(
            f"{directory}: expected to lie in a folder VoxelSpacing<Å>, which says how large voxels are"
        ) from None
    found: dict[int, list[_Annotation]] = {}
    for annotation in _annotations(directory):
        found.setdefault(annotation.label, []).append(annotation)
    if not found:
        raise InputError(f"{directory}: holds no picks; expected files <number>/<object>-<version>_point.ndjson")
    parts = []
    for label in sorted(found):
        best = max(annotation.preference() for annotation in found[label])
        chosen, *others = [annotation for annotation in found[label] if annotation.preference() == best]
        if others:
            said = "%s: holds %d annotations of %s that nothing sets apart; %s is taken"
            logger.warning(said, directory, 1 + len(others), PARTICLE_NAMES[label], chosen.path.relative_to(directory))
        parts.append(_read(chosen, voxel_angstrom))
    return concatenate(parts)


def _annotations(directory: Path) -> list[_Annotation]:
    """Those of particles that are known, in the order of their names; oriented points where there are others, too."""
    found: dict[Path, _Annotation] = {}
    for shape in _SHAPES:
        for path in sorted(directory.glob(f"[!.]*/[!.]*{shape}.ndjson")):
            described = path.with_name(f"{path.name.removesuffix(f'{shape}.ndjson')}.json")
            said = _said_of(described)
            called = said.get("annotation_object")
            names = [called.get("id"), called.get("name")] if isinstance(called, dict) else []
            labels = [label_called(str(name)) for name in (*names, described.stem.rpartition("-")[0]) if name]
            label = next((label for label in labels if label is not None), None)
            if label is not None and described not in found:
                found[described] = _Annotation(
                    path=path,
                    label=label,
                    is_truth=said.get("ground_truth_status") is True,
                    is_recommended=said.get("is_curator_recommended") is True,
                    version=_number(said.get("version")),
                )
    return [found[described] for described in sorted(found)]


def _said_of(path: Path) -> dict[str, Any]:
    """What the file of an annotation says of it; nothing if there is none that can be read."""
    try:
        said = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _number(version: object) -> float:
    try:
        return float(str(version))
    except ValueError:
        return 0.0


def _read(annotation: _Annotation, voxel_angstrom: float) -> Picks:
    """Picks of one annotation."""
    path = annotation.path
    is_oriented = path.stem.endswith(_ORIENTED)
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    location, rotation = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            point = json.loads(line)
            location.append([float(point["location"][axis]) for axis in "xyz"])
            if is_oriented:
                rotation.append(np.array(point["xyz_rotation_matrix"], dtype=np.float64).reshape(3, 3))
        except (ValueError, KeyError, TypeError) as error:
            said = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: line {number}: not a point of the CryoET Data Portal: {said}") from error
    position_xyz = index_to_angstrom(np.array(location).reshape(-1, 3), voxel_angstrom)
    rotation_xyz = np.array(rotation).reshape(-1, 3, 3) if is_oriented else None
    return picks_of_one_type(position_xyz, rotation_xyz, annotation.label, path)
