"""Which particles a specimen holds, how many, where, and how they are turned: the labelled ones and the distractors."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, angstrom_to_index
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.beads import BeadModel, bead_model_names, load_bead_model
from kaggle_cryoet.simulation.lysate import Beads
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.placement import Occupancy, Slab, place

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a labelled particle occurs in the competition's seven training tomograms."""

    count_spread: float
    """Standard deviation of that number between tomograms, relative to the mean. When numbers are drawn, chance
    (Poisson) and the density of particles come on top of it."""
    contact_radius_angstrom: float
    """Half the smallest distances between neighbours of the kind (1st to 5th percentile)."""
    contact_fraction: float
    """Share tried at contact with one of the kind, so that about as many are in contact as in the picks."""
    size_range: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest size of a particle, relative to its bead model."""
    deformation: float = 0.0
    """Standard deviation of the stretch along each of its axes."""


HABITS: Mapping[str, Habit] = {
    "apo-ferritin": Habit(count_spread=0.35, contact_radius_angstrom=52.0, contact_fraction=0.4),
    "beta-amylase": Habit(count_spread=0.33, contact_radius_angstrom=55.0, contact_fraction=0.01),
    "beta-galactosidase": Habit(count_spread=0.33, contact_radius_angstrom=86.0, contact_fraction=0.02),
    "ribosome": Habit(count_spread=0.38, contact_radius_angstrom=115.0, contact_fraction=0.3),
    "thyroglobulin": Habit(count_spread=0.22, contact_radius_angstrom=105.0, contact_fraction=0.01),
    "virus-like-particle": Habit(
        count_spread=0.45,
        contact_radius_angstrom=133.0,
        contact_fraction=0.02,
        size_range=(0.8, 1.02),  # the shells of the three in the public slice have radii of 106 to 120 Å, not 129
        deformation=0.04,
    ),
}
"""By name of particle."""
DISTRACTOR_CONTACT_FRACTION = 0.15


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """All particles of one structure in a specimen."""

    model: BeadModel
    radius_voxels: float
    """No other particle comes nearer than its own radius and this one."""
    position: NDArray[np.float64]
    """`(n, 3)` centres of mass, zyx in voxels."""
    rotation: NDArray[np.float64]
    """`(n, 3, 3)`, acting on zyx columns."""
    size: NDArray[np.float64]
    """`(n, 3)` stretch along the axes of the structure."""


def draw_counts(nuisances: Nuisances, shape_zyx: tuple[int, int, int], rng: np.random.Generator) -> dict[str, int]:
    """Numbers of labelled particles, as the real ones vary between tomograms, in proportion to the volume."""
    share = nuisances.particle_density * np.prod(shape_zyx) / np.prod(CZII_SHAPE_ZYX)
    return {
        name: int(
            rng.poisson(
                share
                * PARTICLES[label_of(name)].mean_count
                * rng.lognormal(-0.5 * habit.count_spread**2, habit.count_spread)
            )
        )
        for name, habit in HABITS.items()
    }


def contact_radii_voxels(bead_models: Mapping[str, BeadModel], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(6,)` radius of each labelled type, by label; of a structure of another size, in proportion to it."""
    radii = []
    for particle in PARTICLES:
        shipped = load_bead_model(particle.name).gyration_angstrom
        size = bead_models[particle.name].gyration_angstrom / shipped if particle.name in bead_models else 1.0
        radii.append(size * HABITS[particle.name].contact_radius_angstrom)
    return np.array(radii) / voxel_angstrom


def draw_populations(
    nuisances: Nuisances,
    slab: Slab,
    voxel_angstrom: float,
    rng: np.random.Generator,
    *,
    counts: Mapping[str, int],
    picks: Picks | None,
    bead_models: Mapping[str, BeadModel],
    is_forbidden: Callable[[NDArray[np.float64], float], bool],
) -> list[Population]:
    """Labelled particles in the order of `PARTICLES`, then distractors.

    The picks, if given, stay where they are; the particles of `counts` are laid down beside them.

    Raises
    ------
    InputError
        If they do not fit, or a name of `counts` is unknown.
    """
    number = [0] * len(PARTICLES)
    for name, count in counts.items():
        number[label_of(name)] = int(count)
    distractors = [load_bead_model(name) for name in bead_model_names() if name not in HABITS]
    others = rng.poisson(nuisances.distractors_per_cubic_micrometre * slab.cubic_micrometres(voxel_angstrom))
    number += rng.multinomial(others, rng.dirichlet(np.full(len(distractors), 0.3))).tolist()
    labelled = contact_radii_voxels(bead_models, voxel_angstrom)
    radius = [*labelled, *(model.radius_angstrom / voxel_angstrom for model in distractors)]
    in_contact = [min(nuisances.clustering * HABITS[p.name].contact_fraction, 0.9) for p in PARTICLES]
    occupancy = Occupancy(max(radius))
    given = _given(picks, voxel_angstrom, rng)
    _warn_of_overlaps([position for position, _ in given], radius, voxel_angstrom)
    for label, (position, _) in enumerate(given):
        for centre in position:
            occupancy.add(centre, radius[label])
    placed = place(
        number,
        radius,
        names=[particle.name for particle in PARTICLES] + [model.name for model in distractors],
        slab=slab,
        contact_fraction=in_contact + [DISTRACTOR_CONTACT_FRACTION] * len(distractors),
        occupancy=occupancy,
        rng=rng,
        interface_fraction=nuisances.interface_fraction,
        is_forbidden=is_forbidden,
    )
    models = [bead_models.get(p.name) or load_bead_model(p.name) for p in PARTICLES] + distractors
    habits = [None if p.name in bead_models else HABITS[p.name] for p in PARTICLES] + [None] * len(distractors)
    populations = []
    for kind, model in enumerate(models):
        position, rotation = placed[kind], _random_rotations(len(placed[kind]), rng)
        if kind < len(given):
            position = np.concatenate([given[kind][0], position])
            rotation = np.concatenate([given[kind][1], rotation])
        populations.append(
            Population(
                model=model,
                radius_voxels=radius[kind],
                position=position,
                rotation=rotation,
                size=_sizes(habits[kind], len(position), rng),
            )
        )
    return populations


def _sizes(habit: Habit | None, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(count, 3)` stretches of particles along the axes of their structure; without a habit all are as their model."""
    if habit is None:
        return np.ones((count, 3))
    return rng.uniform(*habit.size_range, (count, 1)) * (1 + habit.deformation * rng.normal(size=(count, 3)))


def beads_of(population: Population, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """The beads of all particles of a kind; each particle's mass varies by a few per cent, as by partial damage."""
    count = len(population.position)
    stretched = population.size[:, None] * (population.model.position_zyx_angstrom / voxel_angstrom)  # (n, bead, 3)
    turned = np.einsum("nij,nbj->nbi", population.rotation, stretched)
    scale = rng.normal(1.0, 0.06, (count, 1))
    sigma = population.model.sigma_angstrom / voxel_angstrom
    return Beads(
        position=(population.position[:, None] + turned).reshape(-1, 3),
        mass=(scale * population.model.mass).reshape(-1),
        sigma=np.full(count * len(population.model.mass), sigma),
    )


def _given(
    picks: Picks | None, voxel_angstrom: float, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each label, `(n, 3)` positions in voxels and `(n, 3, 3)` rotations of the picks; random where unknown."""
    if picks is None:
        return []
    index = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)
    rotation = picks.orientation_zyx
    if rotation is None:
        rotation = _random_rotations(len(picks), rng)
    elif np.isnan(rotation).any():
        rotation = np.where(np.isnan(rotation), _random_rotations(len(picks), rng), rotation)
    return [(index[picks.label == label], rotation[picks.label == label]) for label in range(len(PARTICLES))]


def _warn_of_overlaps(
    positions: Sequence[NDArray[np.float64]], radius_voxels: Sequence[float], voxel_angstrom: float
) -> None:
    """Say so if some of the given particles, `(n, 3)` of each label, are nearer to each other than others may lie."""
    from scipy.spatial import cKDTree

    position = np.concatenate([np.empty((0, 3)), *positions])
    radius = np.repeat(radius_voxels[: len(positions)], [len(of_label) for of_label in positions])
    one, other = cKDTree(position).query_pairs(2 * max(radius, default=0.0), output_type="ndarray").T
    distance = np.linalg.norm(position[one] - position[other], axis=1)
    near = distance < radius[one] + radius[other]
    if near.any():
        logger.warning(
            "%d picks are nearer to another one than such particles lie, the nearest %.0f Å apart; they are laid into "
            "each other",
            len(np.union1d(one[near], other[near])),
            distance[near].min() * voxel_angstrom,
        )


def _random_rotations(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(count, 3, 3)` uniform random rotations."""
    from scipy.spatial.transform import Rotation

    return Rotation.random(count, rng=rng).as_matrix() if count else np.empty((0, 3, 3))
