"""Labelled runs, made one by one from a seed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kaggle_cryoet import __version__
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.beads import BeadModel
from kaggle_cryoet.simulation.denoise import finish
from kaggle_cryoet.simulation.microscope import draw_tilt_series
from kaggle_cryoet.simulation.network_denoising import (
    NetworkDenoising,
    denoising_of,
    draw_denoising,
)
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.reconstruction import check_types, reconstruct_types
from kaggle_cryoet.simulation.request import check_request, check_shape, check_structures
from kaggle_cryoet.simulation.run_folder import finished_runs, write_run
from kaggle_cryoet.simulation.specimen import check_counts, draw_specimen
from kaggle_cryoet.source import source_commit
from kaggle_cryoet.tomogram import Tomogram
from kaggle_cryoet.whole_file import sole_folder


def simulate_tomogram(
    name: str,
    *,
    seed: Sequence[int] | int,
    shape_zyx: tuple[int, int, int] = CZII_SHAPE_ZYX,
    nuisances: Nuisances | None = None,
    counts: Mapping[str, int] | None = None,
    picks: Picks | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
    tomogram_type: str = "denoised",
    denoising: NetworkDenoising | None = None,
) -> tuple[Tomogram, Picks, Nuisances]:
    """One tomogram, its true picks and the nuisances that were drawn for it; see `simulate_tomograms`."""
    tomograms, true_picks, nuisances = simulate_tomograms(
        name,
        seed=seed,
        shape_zyx=shape_zyx,
        nuisances=nuisances,
        counts=counts,
        picks=picks,
        bead_models=bead_models,
        tomogram_types=(tomogram_type,),
        denoising=denoising,
    )
    return tomograms[tomogram_type], true_picks, nuisances


def simulate_tomograms(
    name: str,
    *,
    seed: Sequence[int] | int,
    shape_zyx: tuple[int, int, int] = CZII_SHAPE_ZYX,
    nuisances: Nuisances | None = None,
    counts: Mapping[str, int] | None = None,
    picks: Picks | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
    tomogram_types: Sequence[str] = ("denoised",),
    denoising: NetworkDenoising | None = None,
) -> tuple[dict[str, Tomogram], Picks, Nuisances]:
    """Reconstructions of one specimen by type, its true picks and its nuisances; the same for the same seed.

    Parameters
    ----------
    name
        Name of the run.
    seed
        Source of all chance.
    shape_zyx
        Shape of the volume in voxels.
    nuisances
        Specimen and microscope; drawn from the distributions of training if not given.
    counts, picks, bead_models
        As in `draw_specimen`.
    tomogram_types
        One or more of `TOMOGRAM_TYPES`; a type is the same whatever other types are asked for.
    denoising
        How a network denoises `denoised`; filters do it if not given, as with all other types.

    Raises
    ------
    InputError
        If an edge is shorter than `LEAST_EDGE_VOXELS`, the particles asked for do not fit, or a type is unknown.
    """
    check_types(tomogram_types)
    check_shape(shape_zyx)
    rng = np.random.default_rng(seed)
    nuisances = nuisances or NUISANCE_RANGES["training"].draw(rng)
    specimen = draw_specimen(
        nuisances,
        shape_zyx,
        rng,
        voxel_angstrom=CZII_VOXEL_ANGSTROM,
        counts=counts,
        picks=picks,
        bead_models=bead_models,
    )
    series = draw_tilt_series(nuisances, CZII_VOXEL_ANGSTROM, rng)
    volumes = reconstruct_types(specimen.density, series, nuisances, rng, tomogram_types, denoising)
    finish_seed = int(rng.integers(2**63))
    tomograms = {}
    for tomogram_type in tomogram_types:
        by_network = denoising_of(tomogram_type, denoising)
        volume = finish(
            volumes.pop(tomogram_type),
            nuisances if by_network is None else by_network.adapted(nuisances),
            np.random.default_rng(finish_seed),
            tomogram_type=tomogram_type,
        )
        tomograms[tomogram_type] = Tomogram(data=volume, voxel_angstrom=CZII_VOXEL_ANGSTROM, name=name)
    return tomograms, specimen.picks, nuisances


def run_name(seed: int, number: int) -> str:
    """Name of run `number` of a set: it says that it is simulated, and the seed."""
    return f"SIM_{seed}_{number}"


def simulate(
    output_directory: str | Path,
    *,
    runs: int = 1,
    shape_zyx: tuple[int, int, int] = CZII_SHAPE_ZYX,
    seed: int = 0,
    setting: str = "training",
    difficulty: float = 0.0,
    counts: Mapping[str, int] | None = None,
    picks: Sequence[Picks] | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
    tomogram_types: Sequence[str] = ("denoised",),
    denoiser: str = "filters",
    progress: bool = False,
) -> list[str]:
    """Write labelled tomograms in the competition's layout.

    `OUTPUT/static/ExperimentRuns/<run>/VoxelSpacing10.000/<type>.zarr`,
    `OUTPUT/overlay/ExperimentRuns/<run>/Picks/<particle>.json` and, beside the runs, what was drawn for each:
    `OUTPUT/provenance/<run>.json`. A run appears whole or not at all. A set that was interrupted is completed by the
    same call; a longer set of the same seed begins with the same runs.

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
        `training`, `wide` or `shifted`: where the nuisances come from.
    difficulty
        From -1 to 1: how much more often they come from the harder, or the easier, part of their ranges.
    counts
        Particles of each type per tomogram, by name; drawn like the real ones if not given.
    picks
        Positions, and orientations if they have any, of the labelled particles: those of run i are number i, and from
        the first again when there are more runs.
    bead_models
        Structures used in place of the package's own, by particle name.
    tomogram_types
        Reconstructions of each specimen.
    denoiser
        `filters`, `network` or `either`: what makes `denoised`; of `either`, a network in every other run.
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

    check_request(
        runs=runs,
        shape_zyx=shape_zyx,
        seed=seed,
        setting=setting,
        difficulty=difficulty,
        counts=counts,
        picks=picks,
        tomogram_types=tomogram_types,
        denoiser=denoiser,
    )
    check_structures(bead_models or {}, shape_zyx)
    nuisances = [NUISANCE_RANGES[setting].draw_of_set(seed, number, difficulty=difficulty) for number in range(runs)]
    for drawn in nuisances:
        check_counts(counts or {}, drawn, shape_zyx, bead_models or {})
    output = Path(output_directory)
    names = [run_name(seed, number) for number in range(runs)]
    request = {
        "seed": seed,
        "shape_zyx": list(shape_zyx),
        "setting": setting,
        "difficulty": difficulty,
        "counts": {name: int(count) for name, count in counts.items()} if counts is not None else None,
        "picks": [_digest_of_picks(item) for item in picks] if picks is not None else None,
        "bead_models": {name: _digest_of_beads(model) for name, model in (bead_models or {}).items()},
        "tomogram_types": list(tomogram_types),
        "denoiser": denoiser,
    }
    made_by = {"version": __version__, "commit": source_commit()}
    with sole_folder(output):
        finished = finished_runs(output, names, request, made_by)
        for number in tqdm(range(runs), desc="simulating", unit="tomogram", disable=not progress):
            if names[number] in finished:
                continue
            denoising = draw_denoising(denoiser, seed, number)
            tomograms, true_picks, _ = simulate_tomograms(
                names[number],
                seed=(seed, number),
                shape_zyx=shape_zyx,
                nuisances=nuisances[number],
                counts=counts,
                picks=None if picks is None else picks[number % len(picks)],
                bead_models=bead_models,
                tomogram_types=tomogram_types,
                denoising=denoising,
            )
            provenance = {"request": request, **made_by, "number": number, "nuisances": asdict(nuisances[number])}
            provenance["denoising"] = None if denoising is None else asdict(denoising)
            provenance["structures"] = {
                name: {"source": model.source, "correlation": model.correlation}
                for name, model in (bead_models or {}).items()
            }
            write_run(output, names[number], tomograms, true_picks, provenance)
    return names


def _digest_of_picks(picks: Picks) -> str:
    """A short name of positions, labels and orientations."""
    orientation = b"" if picks.orientation_zyx is None else picks.orientation_zyx.tobytes()
    content = picks.position_zyx_angstrom.tobytes() + picks.label.tobytes() + orientation
    return hashlib.sha256(content).hexdigest()[:16]


def _digest_of_beads(model: BeadModel) -> str:
    """A short name of a structure."""
    content = model.position_zyx_angstrom.tobytes() + model.mass.tobytes() + repr(model.sigma_angstrom).encode()
    return hashlib.sha256(content).hexdigest()[:16]
