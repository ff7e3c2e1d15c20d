"""What is in the ice: labelled particles, and everything else that a cell lysate holds, as one density volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM, angstrom_to_index, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picks import Picks, check_inside
from kaggle_cryoet.simulation.beads import BeadModel
from kaggle_cryoet.simulation.carbon import CarbonFilm, add_carbon_film, draw_carbon_film
from kaggle_cryoet.simulation.lysate import (
    Beads,
    aggregate,
    cargo,
    companions,
    concatenate_beads,
    contamination,
    filament,
    globules,
    gold,
    scattered,
    vesicle_content,
)
from kaggle_cryoet.simulation.membranes import MEMBRANE_HALF_VOXELS, Vesicle, add_vesicle, draw_vesicle
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.placement import Slab, check_packed
from kaggle_cryoet.simulation.population import (
    Population,
    beads_of,
    contact_radii_voxels,
    draw_counts,
    draw_populations,
)
from kaggle_cryoet.simulation.splat import splat_many

PLACING_ATTEMPTS = 20
"""Tries to find a place for a membrane or a film where it spares the picks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """A volume of ice with what is in it, and what of that is labelled."""

    density: NDArray[np.float32]
    """`(z, y, x)` in kDa of protein per voxel, over that of ice."""
    picks: Picks
    """Centres of mass and orientations of the labelled particles."""
    voxel_angstrom: float


def check_counts(
    counts: Mapping[str, int],
    nuisances: Nuisances,
    shape_zyx: tuple[int, int, int],
    bead_models: Mapping[str, BeadModel],
    voxel_angstrom: float = CZII_VOXEL_ANGSTROM,
) -> None:
    """Raise `InputError` if so many labelled particles would not fit into the ice of a specimen, by their volume."""
    slab = _slab(nuisances, shape_zyx, voxel_angstrom, None)
    number = [counts.get(particle.name, 0) for particle in PARTICLES]
    check_packed(number, contact_radii_voxels(bead_models, voxel_angstrom).tolist(), slab)


def draw_specimen(
    nuisances: Nuisances,
    shape_zyx: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    voxel_angstrom: float = CZII_VOXEL_ANGSTROM,
    counts: Mapping[str, int] | None = None,
    picks: Picks | None = None,
    bead_models: Mapping[str, BeadModel] | None = None,
) -> Specimen:
    """Draw a specimen.

    Parameters
    ----------
    nuisances
        Its distributions' values.
    shape_zyx
        Shape of the volume in voxels.
    rng
        Source of all chance.
    voxel_angstrom
        Size of a voxel.
    counts
        Number of particles of each labelled type; without it, and without picks, drawn per volume like those of the
        competition's training tomograms.
    picks
        Where the labelled particles are, and in which orientation if the picks say so; else they are placed at random.
    bead_models
        Structures used in place of the package's own, by particle name.

    Raises
    ------
    InputError
        If the particles do not fit or lie outside the volume, a name is unknown, or both counts and picks are given.
    """
    if picks is None:
        counts = draw_counts(nuisances, shape_zyx, rng) if counts is None else counts
    elif counts is not None:
        raise InputError("which particles there are is said either by counts or by picks, got both")
    else:
        check_inside(picks, shape_zyx, voxel_angstrom, "the picks to simulate")
    slab = _slab(nuisances, shape_zyx, voxel_angstrom, picks)
    reach = contact_radii_voxels(bead_models or {}, voxel_angstrom)
    film = _draw_film(slab, voxel_angstrom, picks, reach, rng) if nuisances.carbon_edge else None
    vesicles = _draw_vesicles(nuisances, slab, voxel_angstrom, picks, reach, rng)

    def is_forbidden(position: NDArray[np.float64], radius: float) -> bool:
        cut = any(abs(float(vesicle.outside(position))) < radius + MEMBRANE_HALF_VOXELS for vesicle in vesicles)
        return cut or (film is not None and film.touches(position, radius))

    populations = draw_populations(
        nuisances,
        slab,
        voxel_angstrom,
        rng,
        counts=counts or {},
        picks=picks,
        bead_models=bead_models or {},
        is_forbidden=is_forbidden,
    )
    density = np.zeros(shape_zyx, dtype=np.float32)
    if film is not None:
        add_carbon_film(density, film, rng)
    for vesicle in vesicles:
        add_vesicle(density, vesicle, voxel_angstrom)
    vlp = populations[label_of("virus-like-particle")]
    vlp_size = vlp.radius_voxels / contact_radii_voxels({}, voxel_angstrom)[label_of("virus-like-particle")]
    cargo_mass = nuisances.cargo_fraction * float(vlp.model.mass.sum())
    ribosomes = populations[label_of("ribosome")].position
    surroundings = _surroundings(nuisances, slab, vesicles, ribosomes, voxel_angstrom, rng)
    beads = concatenate_beads(
        [
            *(beads_of(population, voxel_angstrom, rng) for population in populations),
            cargo(vlp.position, vlp_size * vlp.size, cargo_mass, voxel_angstrom, rng),
            surroundings.select(_outside_particles(surroundings.position, populations)),
        ]
    )
    splat_many(density, beads.position, beads.mass, beads.sigma)
    labelled = populations[: len(PARTICLES)]
    position = np.concatenate([population.position for population in labelled])
    return Specimen(
        density=density,
        voxel_angstrom=voxel_angstrom,
        picks=Picks(
            position_zyx_angstrom=index_to_angstrom(position, voxel_angstrom),
            label=np.repeat(np.arange(len(labelled)), [len(population.position) for population in labelled]),
            orientation_zyx=np.concatenate([population.rotation for population in labelled]),
        ),
    )


def _slab(nuisances: Nuisances, shape_zyx: tuple[int, int, int], voxel_angstrom: float, picks: Picks | None) -> Slab:
    """The ice, where the nuisances say, or level and thick enough for the picks."""
    depth = shape_zyx[0]
    thickness = min(nuisances.ice_thickness_angstrom / voxel_angstrom, depth - 1.0)
    offset = nuisances.ice_offset * depth
    slope = (nuisances.ice_slope_y, nuisances.ice_slope_x)
    taper = (nuisances.ice_taper_y, nuisances.ice_taper_x)
    if picks is not None and len(picks):
        z = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)[:, 0]
        offset, slope, taper = float(z.min() + z.max()) / 2 - depth / 2, (0.0, 0.0), (0.0, 0.0)
        middle = np.clip(depth / 2 + offset, depth / 4, 3 * depth / 4)  # where a slab lies at most
        thickness = max(thickness, 2 * float(np.abs(z - middle).max()) + 20.0)
    return Slab(shape_zyx=shape_zyx, thickness_voxels=thickness, slope_yx=slope, offset_voxels=offset, taper_yx=taper)


def _draw_film(
    slab: Slab, voxel_angstrom: float, picks: Picks | None, reach: NDArray[np.float64], rng: np.random.Generator
) -> CarbonFilm | None:
    """A carbon film that covers none of the picks, of which each label has its reach; None if there is no room."""
    index, radius = np.empty((0, 3)), np.empty(0)
    if picks is not None:
        index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)
        radius = reach[picks.label]
    for _attempt in range(PLACING_ATTEMPTS):
        film = draw_carbon_film(slab, rng)
        if not any(film.touches(*ball) for ball in zip(index, radius, strict=True)):
            return film
    return None


def _draw_vesicles(
    nuisances: Nuisances,
    slab: Slab,
    voxel_angstrom: float,
    picks: Picks | None,
    reach: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[Vesicle]:
    """Closed membranes that cut none of the picks, of which each label has its reach; fewer if there is no room."""
    vesicles = []
    for _ in range(rng.poisson(nuisances.vesicles_per_cubic_micrometre * slab.cubic_micrometres(voxel_angstrom))):
        for _attempt in range(PLACING_ATTEMPTS):
            vesicle = draw_vesicle(slab, voxel_angstrom, rng)
            if picks is None or _spares(vesicle, picks, reach, voxel_angstrom):
                vesicles.append(vesicle)
                break
    return vesicles


def _spares(vesicle: Vesicle, picks: Picks, reach: NDArray[np.float64], voxel_angstrom: float) -> bool:
    """Whether a membrane cuts no pick."""
    distance = np.abs(vesicle.outside(angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)))
    return bool((distance > reach[picks.label] + MEMBRANE_HALF_VOXELS).all())


def _surroundings(
    nuisances: Nuisances,
    slab: Slab,
    vesicles: Sequence[Vesicle],
    ribosomes: NDArray[np.float64],
    voxel_angstrom: float,
    rng: np.random.Generator,
) -> Beads:
    """Everything unlabelled but distractors and membranes, wherever the particles are."""
    cubic_micrometres = slab.cubic_micrometres(voxel_angstrom)
    number = {
        name: int(rng.poisson(getattr(nuisances, f"{name}_per_cubic_micrometre") * cubic_micrometres))
        for name in ("lysate", "aggregates", "filaments", "gold")
    }
    square_micrometres = np.prod(slab.shape_zyx[1:]) * (voxel_angstrom * 1e-4) ** 2
    lumps = int(rng.poisson(nuisances.contaminations_per_square_micrometre * square_micrometres))
    lysate = scattered(
        number["lysate"],
        nuisances.lysate_clustered,
        slab,
        voxel_angstrom,
        rng,
        interface_fraction=nuisances.lysate_at_interface,
    )
    company = companions(ribosomes, nuisances.companions_per_ribosome, voxel_angstrom, rng)
    return concatenate_beads(
        [
            globules(lysate, voxel_angstrom, rng),
            globules(company[slab.contains(company)], voxel_angstrom, rng),
            *(vesicle_content(vesicle, slab, voxel_angstrom, rng) for vesicle in vesicles),
            *(aggregate(centre, voxel_angstrom, rng) for centre in slab.draw(number["aggregates"], 0, rng)),
            *(filament(centre, slab, voxel_angstrom, rng) for centre in slab.draw(number["filaments"], 0, rng)),
            gold(slab.draw(number["gold"], 0, rng), voxel_angstrom, rng),
            *(contamination(slab, voxel_angstrom, rng) for _ in range(lumps)),
        ]
    )


def _outside_particles(position: NDArray[np.float64], populations: Sequence[Population]) -> NDArray[np.bool_]:
    """`(n,)` whether `(n, 3)` positions zyx in voxels lie outside of all particles."""
    from scipy.spatial import cKDTree

    outside = np.ones(len(position), dtype=bool)
    tree = cKDTree(position)
    for population in populations:
        if len(population.position):
            inside = tree.query_ball_point(population.position, 0.9 * population.radius_voxels)
            outside[np.concatenate([np.asarray(near, dtype=np.int64) for near in inside])] = False
    return outside
