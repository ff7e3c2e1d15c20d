"""Annotations of the CryoET Data Portal: the picks that lie beside its tomograms.

`<run>/Reconstructions/VoxelSpacing<Å>/Annotations/<number>/` holds `<object>-<version>.json`, of what they are, and
`<object>-<version>_point.ndjson`, or `_orientedpoint.ndjson`, with a JSON object for each particle: its `location`, in
voxels of that spacing, whatever the tomogram's own file says of it, and of oriented ones `xyz_rotation_matrix`.

Source: https://chanzuckerberg.github.io/cryoet-data-portal, and how copick 1.0 reads them.
"""

import json
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import index_to_angstrom
from kaggle_cryoet.particles import PARTICLE_NAMES, label_called
from kaggle_cryoet.picks import Picks, picks_of_one_type, picks_of_types

logger = logging.getLogger(__name__)

ANNOTATIONS = "Annotations"
"""Name of the folder, beside `Tomograms`."""
_SPACING = "VoxelSpacing"
_LONGEST_VERSION = 40
"""Of the version of an annotation no more characters count."""
_ORIENTED = "_orientedpoint"
_SHAPES = ("_point", _ORIENTED)
"""How names of files end that hold points, that which says more last."""


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    """One annotation of one type of particle."""

    path: Path
    label: int
    is_truth: bool
    """For those who made it."""
    is_recommended: bool
    """By the portal's curators."""
    version: tuple[int, ...]
    alignment: str | None
    """Of the tilt series, in which its tomogram was made."""

    def preference(self) -> tuple[bool, bool, tuple[int, ...]]:
        return self.is_truth, self.is_recommended, self.version


def is_annotations(directory: Path) -> bool:
    """Whether a folder is one of annotations, by its name and that of the folder that it lies in."""
    return directory.name == ANNOTATIONS and directory.parent.name.startswith(_SPACING)


def holds_annotations(directory: Path) -> bool:
    """Whether there are annotations of particles that are known in a folder `Annotations`."""
    return next(_annotations(directory, tells=False), None) is not None


def read_annotations(directory: Path) -> Picks:
    """Picks of one run from its folder `Annotations`, with score 1, and with orientations where there are some.

    Of several annotations of one type that is taken which is marked as ground truth, then which the curators
    recommend, then of the highest version; if that leaves several, the first by its name, with a warning. There is one,
    too, where they and the tomograms beside them say that they are not all of one alignment of the tilt series.

    Raises
    ------
    InputError
        If the folder is not where a voxel spacing is given, holds no annotation of `PARTICLES`, or one that is broken,
        lacks a field, or has values that are not finite. The message names the file.
    """
    voxel_angstrom = _spacing_of(directory)
    found: dict[int, list[_Annotation]] = {}
    for annotation in _annotations(directory):
        found.setdefault(annotation.label, []).append(annotation)
    if not found:
        raise InputError(f"{directory}: holds no picks; expected files <number>/<object>-<version>_point.ndjson")
    chosen = [_chosen(found[label], directory) for label in sorted(found)]
    tomograms = [_said_of(path) for path in directory.parent.glob("Tomograms/*/tomogram_metadata.json")]
    alignments = {*map(_alignment, tomograms), *(annotation.alignment for annotation in chosen)} - {None}
    if len(alignments) > 1:
        said = "%s: tomograms and annotations are not all of one alignment; positions fit tomograms of their own alone"
        logger.warning(said, directory)
    return picks_of_types([_read(annotation, voxel_angstrom) for annotation in chosen])


def _spacing_of(directory: Path) -> float:
    """Edge of a voxel in Å, as the folder says above that of annotations."""
    try:
        voxel_angstrom = float(directory.parent.name.removeprefix(_SPACING))
    except ValueError:
        voxel_angstrom = math.nan
    if not 0 < voxel_angstrom < math.inf:
        raise InputError(f"{directory}: expected to lie in a folder {_SPACING}<Å>, which says how large voxels are")
    return voxel_angstrom


def _chosen(annotations: list[_Annotation], directory: Path) -> _Annotation:
    """That of several of one type which is read."""
    best = max(annotation.preference() for annotation in annotations)
    chosen, *others = [annotation for annotation in annotations if annotation.preference() == best]
    if others:
        said = "%s: holds %d annotations of %s that nothing sets apart; %s is taken"
        name = PARTICLE_NAMES[chosen.label]
        logger.warning(said, directory, 1 + len(others), name, chosen.path.relative_to(directory))
    return chosen


def _annotations(directory: Path, *, tells: bool = True) -> Iterator[_Annotation]:
    """Those of particles that are known, in the order of their names; oriented points where there are others, too."""
    paths: dict[Path, Path] = {}
    for shape in _SHAPES:
        for path in directory.glob(f"[!.]*/[!.]*{shape}.ndjson"):
            paths[path.with_name(f"{path.name.removesuffix(f'{shape}.ndjson')}.json")] = path
    for described in sorted(paths):
        said = _said_of(described, tells=tells)
        called = said.get("annotation_object")
        names = [str(called[key]) for key in ("id", "name") if called.get(key)] if isinstance(called, dict) else []
        labels = map(label_called, names or [described.stem.rpartition("-")[0]])
        label = next((label for label in labels if label is not None), None)
        if label is not None:
            yield _Annotation(
                path=paths[described],
                label=label,
                is_truth=said.get("ground_truth_status") is True,
                is_recommended=said.get("is_curator_recommended") is True,
                version=tuple(
                    int(number) for number in re.findall(r"[0-9]+", str(said.get("version"))[:_LONGEST_VERSION])
                ),
                alignment=_alignment(said),
            )


def _said_of(path: Path, *, tells: bool = True) -> dict[str, Any]:
    """What a file of metadata says; nothing if there is none, nor, with a warning if it `tells`, if it is broken."""
    try:
        said = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if tells:
            logger.warning("%s: cannot be read (%s); nothing is known of what it describes", path, error)
        return {}
    return said if isinstance(said, dict) else {}


def _alignment(said: dict[str, Any]) -> str | None:
    path = said.get("alignment_metadata_path")
    return path if isinstance(path, str) else None


def _read(annotation: _Annotation, voxel_angstrom: float) -> Picks:
    """Picks of one annotation."""
    path = annotation.path
    is_oriented = path.stem.endswith(_ORIENTED)
    try:
        lines = path.read_text(encoding="utf8").split("\n")
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
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            said = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: line {number}: not a point of the CryoET Data Portal: {said}") from error
    position_xyz = index_to_angstrom(np.array(location).reshape(-1, 3), voxel_angstrom)
    rotation_xyz = np.array(rotation).reshape(-1, 3, 3) if is_oriented else None
    return picks_of_one_type(position_xyz, rotation_xyz, annotation.label, path)
