"""What is in the ice: labelled particles, and everything else that a cell lysate holds, as one density volume."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.beads import BeadModel, bead_model_names, load_bead_model
from kaggle_cryoet.simulation.membranes import (
    CarbonFilm,
    Vesicle,
    add_carbon_film,
    add_vesicle,
    draw_carbon_film,
    draw_vesicle,
    inside_vesicle,
)
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.placement import Slab, place
from kaggle_cryoet.simulation.splat import splat_many

REAL_COUNTS = {
    "apo-ferritin": (375 / 7, 0.35),
    "beta-amylase": (87 / 7, 0.33),
    "beta-galactosidase": (112 / 7, 0.33),
    "ribosome": (331 / 7, 0.38),
    "thyroglobulin": (251 / 7, 0.22),
    "virus-like-particle": (113 / 7, 0.45),
}
"""Mean and relative spread of the number of picks per tomogram, in the competition's seven training tomograms."""
REAL_SHAPE_ZYX = (184, 630, 630)
CONTACT_RADIUS_ANGSTROM = {
    "apo-ferritin": 55.0,
    "beta-amylase": 55.0,
    "beta-galactosidase": 86.0,
    "ribosome": 115.0,
    "thyroglobulin": 105.0,
    "virus-like-particle": 133.0,
}
"""Half the smallest distances between neighbours of a kind in the same tomograms (1st to 5th percentile)."""
RNA_SIGMA_ANGSTROM = 9.0
VLP_INNER_RADIUS_ANGSTROM = 105.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Beads:
    """Gaussian beads of one tomogram."""

    position: NDArray[np.float64]
    """`(n, 3)` zyx in voxels."""
    mass: NDArray[np.float64]
    """`(n,)` in kDa."""
    sigma: NDArray[np.float64]
    """`(n,)` in voxels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """A volume of ice with what is in it, and what of that is labelled."""

    density: NDArray[np.float32]
    """`(z, y, x)` in kDa per voxel over that of ice."""
    picks: Picks
    """Centres of mass and orientations of the labelled particles."""
    voxel_angstrom: float


def draw_specimen(
    nuisances: Nuisances,
    shape_zyx: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    voxel_angstrom: float = CZII_VOXEL_ANGSTROM,
    counts: Mapping[str, int] | None = None,
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
        Number of particles of each labelled type; drawn like those of the competition's training tomograms, per volume,
        where not given.
    bead_models
        Structures used in place of the package's own, by particle name.

    Raises
    ------
    InputError
        If the particles do not fit, or a name is unknown.
    """
    slab = Slab(
        shape_zyx=shape_zyx,
        thickness_voxels=min(nuisances.ice_thickness_angstrom / voxel_angstrom, shape_zyx[0] - 1.0),
        slope_yx=(nuisances.ice_slope * rng.uniform(-1, 1), nuisances.ice_slope),
        offset_voxels=rng.normal(0, 0.04 * shape_zyx[0]),
    )
    film = draw_carbon_film(shape_zyx, rng) if rng.random() < nuisances.carbon_probability else None
    models = [(bead_models or {}).get(p.name) or load_bead_model(p.name) for p in PARTICLES]
    wanted = _draw_counts(nuisances, shape_zyx, rng) if counts is None else counts
    per_label = [0] * len(PARTICLES)
    for name, count in wanted.items():
        per_label[label_of(name)] = int(count)
    volume_cubic_micrometre = np.prod(shape_zyx[1:]) * slab.thickness_voxels * (voxel_angstrom * 1e-4) ** 3
    distractors = [load_bead_model(name) for name in bead_model_names() if name not in REAL_COUNTS]
    distractor_counts = rng.multinomial(
        rng.poisson(nuisances.distractors_per_cubic_micrometre * volume_cubic_micrometre),
        rng.dirichlet(np.full(len(distractors), 0.3)),
    )
    positions = place(
        per_label + [int(count) for count in distractor_counts],
        [CONTACT_RADIUS_ANGSTROM[p.name] / voxel_angstrom for p in PARTICLES]
        + [model.radius_angstrom / voxel_angstrom for model in distractors],
        slab=slab,
        cluster_fraction=nuisances.cluster_fraction,
        rng=rng,
    )
    parts: list[Beads] = []
    rotations: list[NDArray[np.float64]] = []
    for model, centres in zip(models + distractors, positions, strict=True):
        beads, rotation = _oriented(model, centres, voxel_angstrom, rng)
        parts.append(beads)
        rotations.append(rotation)
    vlp = label_of("virus-like-particle")
    parts.append(_cargo(positions[vlp], nuisances.cargo_fraction * models[vlp].mass.sum(), voxel_angstrom, rng))

    density = np.zeros(shape_zyx, dtype=np.float32)
    parts += _background(density, nuisances, slab, film, volume_cubic_micrometre, voxel_angstrom, rng)
    splat_many(
        density,
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.mass for part in parts]),
        np.concatenate([part.sigma for part in parts]),
    )
    labelled = len(PARTICLES)
    return Specimen(
        density=density,
        voxel_angstrom=voxel_angstrom,
        picks=Picks(
            position_zyx_angstrom=index_to_angstrom(np.concatenate(positions[:labelled]), voxel_angstrom),
            label=np.repeat(np.arange(labelled), [len(p) for p in positions[:labelled]]),
            orientation_zyx=np.concatenate(rotations[:labelled]),
        ),
    )


def _draw_counts(nuisances: Nuisances, shape_zyx: tuple[int, int, int], rng: np.random.Generator) -> dict[str, int]:
    """Numbers of labelled particles, as the real ones vary between tomograms, in proportion to the volume."""
    share = nuisances.particle_density * np.prod(shape_zyx) / np.prod(REAL_SHAPE_ZYX)
    return {
        name: int(rng.poisson(share * mean * rng.lognormal(-0.5 * spread**2, spread)))
        for name, (mean, spread) in REAL_COUNTS.items()
    }


def _oriented(
    model: BeadModel, centres: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator
) -> tuple[Beads, NDArray[np.float64]]:
    """A structure at `(n, 3)` centres in voxels, in uniform random orientations: its beads and `(n, 3, 3)` rotations."""
    from scipy.spatial.transform import Rotation

    count = len(centres)
    rotation = Rotation.random(count, rng=rng).as_matrix() if count else np.empty((0, 3, 3))
    turned = np.einsum("nij,bj->nbi", rotation, model.position_zyx_angstrom / voxel_angstrom)
    occupancy = rng.normal(1.0, 0.06, (count, 1))
    return Beads(
        position=(centres[:, None] + turned).reshape(-1, 3),
        mass=(occupancy * model.mass).reshape(-1),
        sigma=np.tile(np.broadcast_to(model.sigma_angstrom / voxel_angstrom, model.mass.shape), count),
    ), rotation


def _cargo(
    centres: NDArray[np.float64], mass: float, voxel_angstrom: float, rng: np.random.Generator, beads: int = 160
) -> Beads:
    """RNA that fills the capsids at `(n, 3)` centres, in uneven clumps."""
    count = len(centres)
    direction = rng.normal(size=(count, beads, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    radius = VLP_INNER_RADIUS_ANGSTROM / voxel_angstrom * rng.random((count, beads, 1)) ** (1 / 3)
    weight = rng.gamma(0.8, size=(count, beads))
    weight *= mass * rng.uniform(0.5, 1.3, (count, 1)) / weight.sum(axis=1, keepdims=True)
    return Beads(
        position=(centres[:, None] + direction * radius).reshape(-1, 3),
        mass=weight.reshape(-1),
        sigma=np.full(count * beads, RNA_SIGMA_ANGSTROM / voxel_angstrom),
    )


def _background(
    density: NDArray[np.float32],
    nuisances: Nuisances,
    slab: Slab,
    film: CarbonFilm | None,
    volume_cubic_micrometre: float,
    voxel_angstrom: float,
    rng: np.random.Generator,
) -> list[Beads]:
    """Everything unlabelled but the distractors: membranes go onto the density at once, the rest comes back as beads."""
    numbers = {
        name: int(rng.poisson(getattr(nuisances, f"{name}_per_cubic_micrometre") * volume_cubic_micrometre))
        for name in ("lysate", "aggregates", "vesicles", "filaments", "gold")
    }
    parts = [_globules(slab.draw(numbers["lysate"], 0, rng), voxel_angstrom, rng)]
    for centre in slab.draw(numbers["vesicles"], 0, rng):
        radius_voxels = float(np.exp(rng.uniform(np.log(120), np.log(1400)))) / voxel_angstrom
        vesicle = draw_vesicle(centre, radius_voxels, rng)
        add_vesicle(density, vesicle, voxel_angstrom)
        parts.append(_vesicle_content(vesicle, slab, voxel_angstrom, rng))
    parts += [_aggregate(centre, voxel_angstrom, rng) for centre in slab.draw(numbers["aggregates"], 0, rng)]
    parts += [_filament(centre, slab, voxel_angstrom, rng) for centre in slab.draw(numbers["filaments"], 0, rng)]
    gold = slab.draw(numbers["gold"], 0, rng)
    gold_sigma = rng.uniform(15, 30, len(gold)) / voxel_angstrom
    parts.append(Beads(position=gold, mass=8 * (2 * np.pi) ** 1.5 * gold_sigma**3, sigma=gold_sigma))
    if film is not None:
        add_carbon_film(density, film, rng)
    return parts


def _globules(
    centres: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator, kilodalton_per_bead: float = 6.0
) -> Beads:
    """Globular proteins of 15 to 300 kDa at `(n, 3)` centres, with the radius of gyration 6.6 Å kDa^(-1/3)."""
    mass = np.exp(rng.uniform(np.log(15), np.log(300), len(centres)))
    beads = np.maximum((mass / kilodalton_per_bead).astype(int), 2)
    gyration = 6.6 * np.cbrt(mass) / voxel_angstrom
    stretch = rng.uniform(0.7, 1.5, (len(centres), 3))
    owner = np.repeat(np.arange(len(centres)), beads)
    offset = rng.normal(size=(len(owner), 3)) * (gyration[:, None] * stretch / np.sqrt(3))[owner]
    return Beads(
        position=centres[owner] + offset,
        mass=(mass / beads)[owner],
        sigma=np.full(len(owner), 7.0 / voxel_angstrom),
    )


def _vesicle_content(vesicle: Vesicle, slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """Proteins in and on the membrane, few or many."""
    reach = vesicle.radius_voxels
    per_voxel = float(np.exp(rng.uniform(np.log(2e-5), np.log(1.5e-3))))
    candidates = vesicle.centre_zyx + rng.uniform(-reach, reach, (min(int(per_voxel * (2 * reach) ** 3), 20000), 3))
    inside = candidates[inside_vesicle(vesicle, candidates, 4.0)]
    direction = rng.normal(size=(int(rng.uniform(0, 0.008) * 4 * np.pi * reach**2), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centres = np.concatenate([inside, vesicle.centre_zyx + direction * (reach + 2.0)])
    return _globules(centres[slab.contains(centres)], voxel_angstrom, rng)


def _aggregate(centre: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """A ragged clump of protein: a branching random walk of globules."""
    beads = int(np.exp(rng.uniform(np.log(30), np.log(700))))
    parent = (rng.random(beads) ** 0.7 * np.arange(beads)).astype(int)
    step = rng.normal(0, rng.uniform(12, 28) / voxel_angstrom, (beads, 3))
    position = np.tile(centre, (beads, 1))
    for bead in range(1, beads):
        position[bead] = position[parent[bead]] + step[bead]
    return Beads(
        position=position,
        mass=rng.uniform(3, 10) * rng.gamma(2.0, 0.5, beads),
        sigma=np.full(beads, rng.uniform(7, 11) / voxel_angstrom),
    )


def _filament(centre: NDArray[np.float64], slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """A thin filament with the mass of actin (43 kDa per 27 Å) or a part of it, gently curved in the ice."""
    step = 10.0 / voxel_angstrom
    beads = int(rng.uniform(300, 4000) / 10.0)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.03, beads))
    path = np.stack([np.zeros(beads), np.sin(heading), np.cos(heading)], axis=1) * step
    position = centre + np.cumsum(path, axis=0) - path.sum(axis=0) / 2
    position[:, 0] += rng.normal(0, 0.1, beads).cumsum() * step
    position = position[slab.contains(position)]
    width = rng.uniform(8, 22) / voxel_angstrom
    return Beads(
        position=position + rng.normal(0, width / 2, position.shape),
        mass=np.full(len(position), rng.uniform(3, 16)),
        sigma=np.full(len(position), 8.0 / voxel_angstrom),
    )
