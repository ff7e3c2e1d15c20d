"""Finding runs, their tomograms and their picks in a directory of any usual form."""

import itertools
import json
import logging
import math
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from kaggle_cryoet.copick import holds_copick, holds_files_of_others
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.labels import NO_LABELS, choose_labels, warn_of_unlabelled
from kaggle_cryoet.mrc import MRC_SUFFIXES
from kaggle_cryoet.ome_zarr import is_store
from kaggle_cryoet.portal import ANNOTATIONS, is_annotations
from kaggle_cryoet.tomogram import RunLocation, printable, run_name, run_of

logger = logging.getLogger(__name__)

TOMOGRAM_TYPES = ("denoised", "isonetcorrected", "ctfdeconvolved", "wbp")
"""The competition's reconstructions, the cleanest first."""

_SUFFIXES = (".zarr", *MRC_SUFFIXES)
_LEFT_OUT = (".gz", ".map", ".ccp4", ".st", ".mrcs", ".em", ".hdf")
"""Volumes in forms that are not read."""


def find_runs(
    directory: str | Path, *, tomogram_type: str = "denoised", names: Sequence[str] = ()
) -> list[RunLocation]:
    """Runs with a tomogram, sorted by name.

    Parameters
    ----------
    directory
        The `static` root of the competition's layout, its parent, an `ExperimentRuns` folder, one run, a `VoxelSpacing`
        folder, a dataset or a run of the CryoET Data Portal, one `.zarr`, `.mrc` or `.rec`, a folder of those, or a
        folder of folders with one of those in each.
    tomogram_type
        Reconstruction to take where a run has several; where it is absent, the first of `TOMOGRAM_TYPES` that is there,
        then of any others by the alphabet. A run whose folder of tomograms is empty is listed with the path that
        should have been there.
    names
        Only these runs; `TS_*` are all whose names begin so.

    Raises
    ------
    InputError
        If the directory does not exist, holds no tomogram, or two of one name, or no run of a name.
    """
    directory = _absolute(directory)
    if not directory.exists():
        raise InputError(f"{directory}: does not exist; expected a folder of tomograms, or one .zarr, .mrc or .rec")
    if directory.is_file() and not _is_tomogram(directory):
        raise InputError(f"{directory}: holds no tomogram that can be read; expected a folder, or a .mrc or .rec file")
    runs = _locate(directory, tomogram_type)
    if not any(run.tomogram_path.exists() for run in runs):
        raise InputError(
            f"{directory}: holds no tomogram; expected ExperimentRuns/<run>/VoxelSpacing*/{tomogram_type}.zarr below "
            "it, .zarr folders or .mrc or .rec files in it, or folders with one of these in each"
        )
    unknown = [name for name in names if not any(_is_named(run, name) for run in runs)]
    if unknown:
        raise InputError(f"{directory}: holds no run {', '.join(sorted(unknown))}")
    runs = [run for run in runs if not names or any(_is_named(run, name) for name in names)]
    for run in runs:
        path = run.tomogram_path
        if run_of(path) is not None and tomogram_type_of(path) != tomogram_type and path != directory:
            logger.warning("%s: has no tomogram of type %s; %s is taken", run.name, tomogram_type, path.name)
    return runs


def find_picks(directory: str | Path) -> dict[str, Path]:
    """Folder of picks of each run, by name of run, sorted; as `read_labels` takes them.

    Where runs have tomograms, their picks are those that `find_runs` finds. What this program found itself counts only
    where there is nothing else, no tomograms either.

    Parameters
    ----------
    directory
        A folder of picks, one run, an `ExperimentRuns` folder, an `overlay` or its parent, `Annotations` or a dataset
        of the CryoET Data Portal, with tomograms or without; or any form that `find_runs` takes and that has picks
        beside the tomograms.

    Raises
    ------
    InputError
        If the directory does not exist or no picks belong to it.
    """
    directory = _absolute(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: not a folder; expected one with picks")
    if directory.name == "Picks":
        return {printable(directory.parent.name): directory}
    if is_annotations(directory):
        return {run_name(directory / "any.zarr"): directory}
    roots = (directory, directory / "ExperimentRuns", directory / "overlay" / "ExperimentRuns")
    groups = [[directory], *(_subdirectories(root) for root in roots)]
    beside = [run / "Picks" for group in groups for run in group if any((run / "Picks").glob("[!.]*"))]
    labelled = (
        {printable(run.name): run / "Picks" for run in group if holds_files_of_others(run / "Picks")}
        for group in groups
    )
    found: dict[str, Path] = next(filter(None, labelled), {})
    try:
        runs = _locate(directory, TOMOGRAM_TYPES[0])
    except InputError:  # of tomograms, which are not asked for
        if not found:
            raise
        runs = []
    found |= {run.name: run.picks_directory for run in runs if run.picks_directory is not None}
    if not found and beside and not runs:  # predictions that are to be taken for the truth
        return {printable(folder.parent.name): folder for folder in beside}
    if not found and not runs and holds_copick(directory):
        return {printable(directory.name): directory}
    if not found:
        raise InputError(
            f"{directory}: holds no picks; looked for ExperimentRuns/<run>/Picks/<particle>.json below it, in an "
            "overlay and beside the tomograms, and for Annotations of the CryoET Data Portal. Files of other forms, "
            f"as .star, are not read; {NO_LABELS}"
        )
    warn_of_unlabelled(directory, sum(run.name not in found for run in runs), len(runs))
    return dict(sorted(found.items()))


def tomogram_type_of(path: Path) -> str:
    """Reconstruction, by the name of the file, or by what the CryoET Data Portal says beside it of its processing."""
    try:
        said = json.loads((path.parent / "tomogram_metadata.json").read_text(encoding="utf8"))["processing"]
    except (OSError, ValueError, KeyError, TypeError):
        return path.stem.removesuffix(".ome")
    return {"raw": "wbp"}.get(said, str(said))


def reconstructions_beside(path: Path) -> dict[str, Path]:
    """Tomograms of the same run and voxels as one, by their type: of its own type itself, of others as of `find_runs`.

    Of one that is in no `VoxelSpacing` folder, itself alone.
    """
    spacing = next((folder for folder in path.parents if folder.name.startswith("VoxelSpacing")), None)
    found = [] if spacing is None else sorted(_in_spacing(spacing), key=_order_within_type, reverse=True)
    return {tomogram_type_of(one): one for one in (*found, path)}


def _locate(directory: Path, tomogram_type: str) -> list[RunLocation]:
    """Runs in a directory of any form; none if it has no such form."""
    if _is_tomogram(directory):
        return [_location_of_file(directory)]
    if directory.name == "Tomograms" and directory.parent.name.startswith("VoxelSpacing"):
        directory = directory.parent
    if directory.name == "Reconstructions":
        directory = directory.parent
    if directory.name.startswith("VoxelSpacing"):
        above = run_of(directory / "any.zarr")
        return [] if above is None else [_location_of_run(above, [directory], tomogram_type)]
    if _spacings(directory):
        return [_location_of_run(directory, _spacings(directory), tomogram_type)]
    for root in (directory, directory / "ExperimentRuns", directory / "static" / "ExperimentRuns"):
        runs = [_location_of_run(run, _spacings(run), tomogram_type) for run in _subdirectories(root) if _spacings(run)]
        if runs:
            return runs
    files = sorted((_location_of_file(path) for path in _of_each_stem(directory)), key=lambda run: run.name)
    if not files:
        return _one_in_each(directory)
    for run, following in itertools.pairwise(files):
        if run.name == following.name:
            raise InputError(f"{directory}: holds two tomograms named {run.name!r}; expected one of each name")
    left = sorted(path.name for path in directory.iterdir() if path.suffix.lower() in _LEFT_OUT)
    if left:
        logger.warning("%s: %d files are left out, as %s; expected .zarr, .mrc or .rec", directory, len(left), left[0])
    return files


def _is_named(run: RunLocation, name: str) -> bool:
    return run.name == name or fnmatchcase(run.name, name)


def _of_each_stem(directory: Path) -> list[Path]:
    """Tomograms in a folder; where a `.zarr` and a file have one name, the `.zarr`, with a warning."""
    found = _tomograms(directory)
    stores = {run_name(path) for path in found if path.suffix.lower() not in MRC_SUFFIXES}
    beside = [path for path in found if path.suffix.lower() in MRC_SUFFIXES and run_name(path) in stores]
    if beside:
        logger.warning("%s: %d files are left out beside a .zarr of their name", directory, len(beside))
    return [path for path in found if path not in beside]


def _one_in_each(directory: Path) -> list[RunLocation]:
    """A run for each subfolder with a tomogram, named after it; raises if one of them has several."""
    found = {folder: _of_each_stem(folder) for folder in _subdirectories(directory)}
    several = next((folder for folder, paths in found.items() if len(paths) > 1), None)
    if several is not None:
        names = ", ".join(sorted(path.name for path in found[several])[:3])
        raise InputError(f"{several}: holds {len(found[several])} tomograms ({names}); expected one in each folder")
    return [
        RunLocation(name=printable(folder.name), tomogram_path=path, picks_directory=None)
        for folder, paths in found.items()
        for path in paths
    ]


def _location_of_file(path: Path) -> RunLocation:
    run = run_of(path)
    picks_directory = None if run is None else _picks_directory(run, path)
    return RunLocation(name=run_name(path), tomogram_path=path, picks_directory=picks_directory)


def _location_of_run(run: Path, spacings: list[Path], tomogram_type: str) -> RunLocation:
    """Location of the tomogram of the preferred type, then of voxels that are most like those the networks know."""
    order = (tomogram_type, *TOMOGRAM_TYPES)
    rank_of = {path: rank for rank, spacing in enumerate(spacings) for path in _in_spacing(spacing)}

    def preference(path: Path) -> tuple[int, int, bool, str]:
        kind = tomogram_type_of(path)
        rank = order.index(kind) if kind in order else len(order)
        return rank, rank_of[path], *_order_within_type(path)

    wanted = spacings[0] / f"{tomogram_type}.zarr"
    path = min(rank_of, key=preference, default=wanted)
    return RunLocation(name=printable(run.name), tomogram_path=path, picks_directory=_picks_directory(run, path))


def _order_within_type(path: Path) -> tuple[bool, str]:
    """The `.zarr` first, then by the alphabet."""
    return path.suffix.lower() != ".zarr", str(path)


def _in_spacing(spacing: Path) -> list[Path]:
    """Tomograms of one voxel spacing, in copick's layout or in that of the CryoET Data Portal."""
    return [path for folder in (spacing, *_subdirectories(spacing / "Tomograms")) for path in _tomograms(folder)]


def _picks_directory(run: Path, tomogram_path: Path) -> Path | None:
    """The run's picks in an `overlay` beside its runs or their `static` root, else in the run, else the Data Portal's.

    Of the latter those beside the tomogram, else those of another voxel spacing.
    """
    roots = (run.parent.parent, run.parent.parent.parent)
    overlays = (root / "overlay" / "ExperimentRuns" / run.name / "Picks" for root in roots)
    spacings = sorted(_spacings(run), key=lambda spacing: spacing not in tomogram_path.parents)
    return choose_labels((*overlays, run / "Picks"), (spacing / ANNOTATIONS for spacing in spacings))


def _spacings(run: Path) -> list[Path]:
    """Folders of tomograms of a run, those first whose voxels are most like the ones that the networks know."""
    found = [*_subdirectories(run), *_subdirectories(run / "Reconstructions")]
    return sorted((path for path in found if path.name.startswith("VoxelSpacing")), key=_unlikeness)


def _unlikeness(spacing: Path) -> float:
    """How many times larger or smaller its voxels are, as a logarithm."""
    try:
        return abs(math.log(float(spacing.name.removeprefix("VoxelSpacing")) / CZII_VOXEL_ANGSTROM))
    except ValueError:
        return math.inf


def _is_tomogram(path: Path) -> bool:
    if path.is_dir():
        return path.suffix == ".zarr" or is_store(path)
    return path.suffix.lower() in MRC_SUFFIXES


def _tomograms(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    found = (path for path in directory.iterdir() if not path.name.startswith("."))
    return [path for path in found if path.suffix.lower() in _SUFFIXES or (path.is_dir() and _is_tomogram(path))]


def _subdirectories(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


def _absolute(directory: str | Path) -> Path:
    """Absolute path without `..`; unlike `Path.resolve` it keeps the names of links, which name the runs."""
    return Path(os.path.abspath(directory))  # noqa: PTH100
