"""Labelled runs in the competition's layout, made one by one from a seed."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picks import Picks, write_copick
from kaggle_cryoet.simulation.beads import BeadModel
from kaggle_cryoet.simulation.denoise import finish
from kaggle_cryoet.simulation.microscope import draw_tilt_series, reconstruct
from kaggle_cryoet.simulation.nuisances import NUISANCE_RANGES, Nuisances, NuisanceRanges
from kaggle_cryoet.simulation.specimen import REAL_SHAPE_ZYX, draw_specimen
from kaggle_cryoet.tomogram import Tomogram, write_tomogram

logger = logging.getLogger(__name__)

LEAST_EDGE_VOXELS = 32
"""The largest particles are 27 voxels across."""


def simulate_tomogram(
    name: str,
    *,
    seed: Sequence[int] | int,
    shape_zyx: tuple[int, int, int] = REAL_SHAPE_ZYX,
    ranges: NuisanceRanges | None = None,
    voxel_angstrom: float = CZII_VOXEL_ANGSTROM,
    counts: Mapping[str, int] | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
) -> tuple[Tomogram, Picks, Nuisances]:
    """One tomogram, its true picks and the nuisances that were drawn for it; the same for the same seed.

    Raises
    ------
    InputError
        If an edge is shorter than `LEAST_EDGE_VOXELS`, or the particles asked for do not fit.
    """
    if min(shape_zyx) < LEAST_EDGE_VOXELS:
        raise InputError(
            f"a tomogram needs edges of {LEAST_EDGE_VOXELS} voxels or more to hold particles, got {shape_zyx}"
        )
    rng = np.random.default_rng(seed)
    nuisances = (ranges or NUISANCE_RANGES["training"]).draw(rng)
    specimen = draw_specimen(
        nuisances, shape_zyx, rng, voxel_angstrom=voxel_angstrom, counts=counts, bead_models=bead_models
    )
    series = draw_tilt_series(nuisances, voxel_angstrom, rng)
    volume = finish(reconstruct(specimen.density, series, nuisances, rng), nuisances, rng)
    return Tomogram(data=volume, voxel_angstrom=voxel_angstrom, name=name), specimen.picks, nuisances


def run_name(seed: int, number: int) -> str:
    """Name of run `number` of a set: it says that it is simulated, and the seed."""
    return f"SIM_{seed}_{number}"


def write_run(static: Path, overlay: Path, tomogram: Tomogram, picks: Picks, provenance: Mapping[str, object]) -> None:
    """Write a run whole or not at all: the tomogram's directory gets its name last."""
    runs = static / "ExperimentRuns"
    unfinished = runs / f".{tomogram.name}.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    spacing = unfinished / "VoxelSpacing10.000"
    spacing.mkdir(parents=True)
    try:
        write_tomogram(spacing / "denoised.zarr", tomogram)
        (unfinished / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf8")
        picks_directory = overlay / "ExperimentRuns" / tomogram.name / "Picks"
        if picks_directory.exists():
            shutil.rmtree(picks_directory)
        picks_directory.mkdir(parents=True)
        write_copick(picks_directory, picks, tomogram.name)
        unfinished.rename(runs / tomogram.name)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def simulate(
    output_directory: str | Path,
    *,
    runs: int = 1,
    shape_zyx: tuple[int, int, int] = REAL_SHAPE_ZYX,
    seed: int = 0,
    setting: str = "training",
    counts: Mapping[str, int] | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
    progress: bool = False,
) -> list[str]:
    """Write labelled tomograms in the competition's layout.

    `OUTPUT/static/ExperimentRuns/<run>/VoxelSpacing10.000/denoised.zarr` and
    `OUTPUT/overlay/ExperimentRuns/<run>/Picks/<particle>.json`. A set that was interrupted is completed: a run that is there
    is whole and is kept if it was made from the same request.

    Parameters
    ----------
    output_directory
        Made if missing; holds nothing, or a part of the same set.
    runs
        Number of tomograms.
    shape_zyx
        Voxels of each.
    seed
        Run i is drawn from `(seed, i)` alone.
    setting
        `training` or `shifted`: where the nuisances come from.
    counts
        Particles of each type per tomogram, by name; drawn like the real ones if not given.
    bead_models
        Structures used in place of the package's own, by particle name.
    progress
        Show a bar.

    Returns
    -------
    list of str
        Names of the runs.

    Raises
    ------
    InputError
        If the request is impossible, or the directory holds something else.
    """
    from tqdm.auto import tqdm

    if runs < 1:
        raise InputError(f"at least one run must be asked for, got {runs}")
    if setting not in NUISANCE_RANGES:
        raise InputError(f"unknown setting {setting!r}; expected one of {', '.join(NUISANCE_RANGES)}")
    for name in list(counts or {}) + list(bead_models or {}):
        if name not in PARTICLE_NAMES:
            raise InputError(f"unknown particle {name!r}; expected one of {', '.join(PARTICLE_NAMES)}")
    output = Path(output_directory)
    static, overlay = output / "static", output / "overlay"
    names = [run_name(seed, number) for number in range(runs)]
    request = {
        "seed": seed,
        "shape_zyx": list(shape_zyx),
        "setting": setting,
        "counts": dict(counts) if counts else None,
        "bead_models": {name: model.source for name, model in (bead_models or {}).items()},
    }
    finished = _finished_runs(output, names, request)
    (static / "ExperimentRuns").mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(runs), desc="simulating", unit="tomogram", disable=not progress):
        if names[number] in finished:
            continue
        tomogram, picks, nuisances = simulate_tomogram(
            names[number],
            seed=(seed, number),
            shape_zyx=shape_zyx,
            ranges=NUISANCE_RANGES[setting],
            counts=counts,
            bead_models=bead_models,
        )
        write_run(
            static, overlay, tomogram, picks, {"request": request, "number": number, "nuisances": asdict(nuisances)}
        )
    return names


def _finished_runs(output: Path, names: Sequence[str], request: Mapping[str, object]) -> set[str]:
    """Runs of this very request that are there already; anything else in the directory is an error."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; expected a directory to write runs into")
    if not output.exists():
        return set()
    strangers = {entry.name for entry in output.iterdir()} - {"static", "overlay"}
    runs = output / "static" / "ExperimentRuns"
    present = {entry.name for entry in runs.iterdir() if not entry.name.startswith(".")} if runs.is_dir() else set()
    strangers |= present - set(names)
    if strangers:
        raise InputError(f"{output} is not empty and holds something else: {', '.join(sorted(strangers)[:3])}")
    for name in present:
        made = json.loads((runs / name / "provenance.json").read_text(encoding="utf8"))
        if made["request"] != request:
            raise InputError(f"{output} holds run {name} of another request; choose an empty directory")
    return present
