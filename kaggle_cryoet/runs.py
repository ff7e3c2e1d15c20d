"""Finding runs, their tomograms and their picks in a directory of any usual form."""

import itertools
import logging
import math
import os
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.mrc import MRC_SUFFIXES
from kaggle_cryoet.tomogram import RunLocation, run_name

logger = logging.getLogger(__name__)

TOMOGRAM_TYPES = ("denoised", "isonetcorrected", "ctfdeconvolved", "wbp")
"""The competition's reconstructions, the cleanest first."""

_SUFFIXES = (".zarr", *MRC_SUFFIXES)
_LEFT_OUT = (".gz", ".map", ".ccp4", ".st")
"""Volumes in forms that are not read."""


def find_runs(directory: str | Path, *, tomogram_type: str = "denoised") -> list[RunLocation]:
    """Runs with a tomogram, sorted by name.

    Parameters
    ----------
    directory
        The `static` root of the competition's layout, its parent, an `ExperimentRuns` folder, one run, a `VoxelSpacing`
        folder, one `.zarr`, `.mrc` or `.rec`, or a folder of those.
    tomogram_type
        Reconstruction to take where a run has several; where it is absent, the first of `TOMOGRAM_TYPES` that is there,
        then of any others by the alphabet. A run whose folder of tomograms is empty is listed with the path that
        should have been there.

    Raises
    ------
    InputError
        If the directory does not exist, holds no tomogram, or holds two of one name.
    """
    directory = _absolute(directory)
    if not directory.exists():
        raise InputError(f"{directory}: does not exist; expected a folder of tomograms, or one .zarr, .mrc or .rec")
    runs = _locate(directory, tomogram_type)
    if not any(run.tomogram_path.exists() for run in runs):
        raise InputError(
            f"{directory}: holds no tomogram; expected ExperimentRuns/<run>/VoxelSpacing*/{tomogram_type}.zarr below "
            "it, or .zarr folders or .mrc or .rec files in it"
        )
    return runs


def find_picks(directory: str | Path) -> dict[str, Path]:
    """Folder of picks of each run, by name of run, sorted.

    Parameters
    ----------
    directory
        A `Picks` folder, one run, an `ExperimentRuns` folder, an `overlay` or its parent, tomograms or none; or any
        form that `find_runs` takes and that has picks beside the tomograms.

    Raises
    ------
    InputError
        If the directory does not exist or no picks belong to it.
    """
    directory = _absolute(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: not a folder; expected one with picks")
    if directory.name == "Picks":
        return {directory.parent.name: directory}
    if (directory / "Picks").is_dir():
        return {directory.name: directory / "Picks"}
    for root in (directory, directory / "ExperimentRuns", directory / "overlay" / "ExperimentRuns"):
        found = {run.name: run / "Picks" for run in _subdirectories(root) if (run / "Picks").is_dir()}
        if found:
            return found
    runs = _locate(directory, TOMOGRAM_TYPES[0])
    found = {run.name: run.picks_directory for run in runs if run.picks_directory is not None}
    if not found:
        raise InputError(f"{directory}: holds no picks; expected ExperimentRuns/<run>/Picks/<particle>.json below it")
    if len(found) < len(runs):
        logger.warning("%s: %d of %d runs have no picks and are left out", directory, len(runs) - len(found), len(runs))
    return found


def _locate(directory: Path, tomogram_type: str) -> list[RunLocation]:
    """Runs in a directory of any form; none if it has no such form."""
    if _is_tomogram(directory):
        return [_location_of_file(directory)]
    if directory.name.startswith("VoxelSpacing"):
        return [_location_of_run(directory.parent, [directory], tomogram_type)]
    if _spacings(directory):
        return [_location_of_run(directory, _spacings(directory), tomogram_type)]
    for root in (directory, directory / "ExperimentRuns", directory / "static" / "ExperimentRuns"):
        runs = [_location_of_run(run, _spacings(run), tomogram_type) for run in _subdirectories(root) if _spacings(run)]
        if runs:
            return runs
    files = sorted((_location_of_file(path) for path in _tomograms(directory)), key=lambda run: run.name)
    for run, following in itertools.pairwise(files):
        if run.name == following.name:
            raise InputError(f"{directory}: holds two tomograms named {run.name!r}; expected one of each name")
    left = sorted(path.name for path in directory.iterdir() if path.suffix.lower() in _LEFT_OUT) if files else []
    if left:
        logger.warning("%s: %d files are left out, as %s; expected .zarr, .mrc or .rec", directory, len(left), left[0])
    return files


def _location_of_file(path: Path) -> RunLocation:
    in_run = path.parent.name.startswith("VoxelSpacing")
    picks_directory = _picks_directory(path.parent.parent) if in_run else None
    return RunLocation(name=run_name(path), tomogram_path=path, picks_directory=picks_directory)


def _location_of_run(run: Path, spacings: list[Path], tomogram_type: str) -> RunLocation:
    """Location of the tomogram of the preferred type, then of the smallest voxels."""
    order = (tomogram_type, *TOMOGRAM_TYPES)

    def preference(path: Path) -> tuple[int, float, bool, str]:
        rank = order.index(path.stem) if path.stem in order else len(order)
        return rank, _spacing_angstrom(path.parent), path.suffix.lower() != ".zarr", path.name

    wanted = spacings[0] / f"{tomogram_type}.zarr"
    path = min((path for spacing in spacings for path in _tomograms(spacing)), key=preference, default=wanted)
    if path.stem != tomogram_type:
        logger.warning("%s: has no tomogram of type %s; %s is taken", run, tomogram_type, path.name)
    return RunLocation(name=run.name, tomogram_path=path, picks_directory=_picks_directory(run))


def _picks_directory(run: Path) -> Path | None:
    """The run's picks in the `overlay` beside its `static` root, else in the run itself."""
    beside = run.parent.parent.parent / "overlay" / "ExperimentRuns" / run.name / "Picks"
    return next((path for path in (beside, run / "Picks") if path.is_dir()), None)


def _spacings(run: Path) -> list[Path]:
    """Folders of tomograms of a copick run, the smallest voxels first."""
    found = [path for path in _subdirectories(run) if path.name.startswith("VoxelSpacing")]
    return sorted(found, key=_spacing_angstrom)


def _spacing_angstrom(spacing: Path) -> float:
    try:
        return float(spacing.name.removeprefix("VoxelSpacing"))
    except ValueError:
        return math.inf


def _is_tomogram(path: Path) -> bool:
    if path.is_dir():
        return path.suffix == ".zarr" or any((path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))
    return path.suffix.lower() in MRC_SUFFIXES


def _tomograms(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")]


def _subdirectories(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def _absolute(directory: str | Path) -> Path:
    """Absolute path without `..`; unlike `Path.resolve` it keeps the names of links, which name the runs."""
    return Path(os.path.abspath(directory))  # noqa: PTH100
