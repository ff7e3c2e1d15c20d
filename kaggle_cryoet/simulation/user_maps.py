"""A user's own density maps in place of the package's bead models."""

import logging
from collections.abc import Mapping
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.simulation.bead_fit import bead_count, fit_beads
from kaggle_cryoet.simulation.beads import BeadModel, load_bead_model
from kaggle_cryoet.simulation.density_map import read_map

logger = logging.getLogger(__name__)

GOOD_CORRELATION = 0.95
"""A fit below this is worth a warning."""
LEAST_CORRELATION = 0.8
"""A fit below this is none."""
MOST_TIMES = 3.0
"""A structure in place of the package's own is at most so many times larger or smaller, by its radius of gyration."""


def fit_user_maps(maps: Mapping[str, str | Path], *, seed: int = 0) -> dict[str, BeadModel]:
    """Bead models fitted to MRC density maps, for the argument `bead_models` of `simulate`.

    Parameters
    ----------
    maps
        Path of a map by name of particle, which is bright in it. Its scale and level do not matter: the model gets the
        mass of the package's own.
    seed
        Of the places from which the beads start.

    Raises
    ------
    InputError
        If a name is no particle's, or a map cannot be read, holds no bright density, or none that beads can be fitted
        to, or something much larger or smaller than the particle. The message names the file.
    """
    for name in maps:
        if name not in PARTICLE_NAMES:
            raise InputError(f"unknown particle {name!r}; expected one of {', '.join(PARTICLE_NAMES)}")
    densities = {name: read_map(Path(path)) for name, path in maps.items()}  # all of them before the first is fitted
    models = {}
    for name, path in maps.items():
        density, voxel_angstrom = densities[name]
        mass_kilodalton = float(load_bead_model(name).mass.sum())
        try:
            models[name] = fit_beads(
                density,
                voxel_angstrom,
                beads=bead_count(mass_kilodalton),
                seed=seed,
                name=name,
                mass_kilodalton=mass_kilodalton,
                source=f"map {Path(path).name}",
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        times = models[name].gyration_angstrom / load_bead_model(name).gyration_angstrom
        if not 1 / MOST_TIMES <= times <= MOST_TIMES:
            raise InputError(
                f"{path}: what is bright in it is {times:.2g} times as large as {name}; expected one particle, and "
                "voxels of the size that its header says"
            )
        correlation = models[name].correlation
        if not correlation >= LEAST_CORRELATION:
            raise InputError(
                f"{path}: no bead model fits it, the best correlates {correlation:.3f}; expected one bright particle "
                "on an even ground"
            )
        if correlation < GOOD_CORRELATION:
            logger.warning("%s: the bead model correlates only %.3f with the map", path, correlation)
    return models
