"""What a cell lysate holds besides the labelled particles, and the RNA in virus-like particles: as Gaussian beads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.simulation.membranes import Vesicle
from kaggle_cryoet.simulation.placement import Slab

GYRATION_ANGSTROM = 5.1
"""Radius of gyration of a globular protein of 1 kDa; it grows with the cube root of the mass.
Source: a ball of 0.73 cm3/g has the radius 6.6 Å kDa^(-1/3), and 0.775 of that as radius of gyration."""
LYSATE_MEDIAN_KILODALTON, LYSATE_LOG_SPREAD = 40.0, 0.9
KILODALTON_PER_BEAD = 12.0
GLOBULE_SIGMA_ANGSTROM = 8.0
RNA_SIGMA_ANGSTROM = 9.0
VLP_INNER_RADIUS_ANGSTROM = 105.0
PROTEINS_PER_GROUP = 12
COMPANION_DISTANCE_ANGSTROM = (110.0, 210.0)
"""From the middle of a ribosome to the proteins that lie around it."""
GOLD_DENSITY = 8.0
"""In kDa of protein per voxel of 10 Å: gold scatters about ten times as much as protein."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Beads:
    """Gaussian beads in one tomogram."""

    position: NDArray[np.float64]
    """`(n, 3)` zyx in voxels."""
    mass: NDArray[np.float64]
    """`(n,)` in kDa, of protein that scatters as much."""
    sigma: NDArray[np.float64]
    """`(n,)` in voxels."""

    def select(self, chosen: NDArray[np.bool_]) -> "Beads":
        """The beads where a `(n,)` mask is true."""
        return Beads(position=self.position[chosen], mass=self.mass[chosen], sigma=self.sigma[chosen])


def concatenate_beads(parts: Sequence[Beads]) -> Beads:
    """All beads of one or more parts, in their order."""
    return Beads(
        position=np.concatenate([part.position for part in parts]),
        mass=np.concatenate([part.mass for part in parts]),
        sigma=np.concatenate([part.sigma for part in parts]),
    )


def scattered(
    count: int,
    clustered: float,
    slab: Slab,
    voxel_angstrom: float,
    rng: np.random.Generator,
    *,
    interface_fraction: float = 0.0,
) -> NDArray[np.float64]:
    """`(n, 3)` positions zyx in the ice of up to `count` proteins, a share `clustered` of them in loose groups.

    Of the others a share `interface_fraction` makes layers on the two surfaces of the ice, where proteins unfold.
    """
    alone = slab.draw(count - int(clustered * count), 0.0, rng, interface_fraction=interface_fraction)
    groups = slab.draw(max(int(clustered * count / PROTEINS_PER_GROUP), 1), 0.0, rng)
    share = rng.gamma(0.6, size=len(groups))
    owner = rng.choice(len(groups), count - len(alone), p=share / share.sum())
    spread = rng.uniform(60, 250, len(groups)) / voxel_angstrom
    near = groups[owner] + rng.normal(size=(len(owner), 3)) * spread[owner, None]
    return np.concatenate([alone, near[slab.contains(near)]])


def companions(
    centres: NDArray[np.float64], per_centre: float, voxel_angstrom: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """`(n, 3)` positions zyx of proteins around each of the `(m, 3)` centres, as many as a Poisson number of them."""
    owner = np.repeat(np.arange(len(centres)), rng.poisson(per_centre, len(centres)))
    direction = rng.normal(size=(len(owner), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = rng.uniform(*COMPANION_DISTANCE_ANGSTROM, (len(owner), 1)) / voxel_angstrom
    return np.asarray(centres[owner] + direction * distance)


def globules(centres: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """Proteins of mostly 15 to 200 kDa at `(n, 3)` centres: compact or loose, round or elongated, all ragged."""
    count = len(centres)
    mass = np.clip(LYSATE_MEDIAN_KILODALTON * np.exp(rng.normal(0, LYSATE_LOG_SPREAD, count)), 12, 1000)
    beads = np.maximum((mass / KILODALTON_PER_BEAD).astype(int), 1)
    gyration = GYRATION_ANGSTROM * np.cbrt(mass) * np.exp(rng.normal(0.35, 0.25, count))
    width = np.sqrt(np.maximum(gyration**2 - 3 * GLOBULE_SIGMA_ANGSTROM**2, 9.0) / 3)
    stretched = width[:, None] * np.exp(rng.normal(0, 0.4, (count, 3))) / voxel_angstrom
    owner = np.repeat(np.arange(count), beads)
    return Beads(
        position=centres[owner] + rng.normal(size=(len(owner), 3)) * stretched[owner],
        mass=(mass / beads)[owner],
        sigma=np.full(len(owner), GLOBULE_SIGMA_ANGSTROM / voxel_angstrom),
    )


def vesicle_content(vesicle: Vesicle, slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """Proteins in and on the membrane, few or many."""
    reach = vesicle.radius_voxels * np.array([vesicle.flattening, 1.0, 1.0])
    per_voxel = float(np.exp(rng.uniform(np.log(2e-5), np.log(1.5e-3))))
    count = min(int(per_voxel * np.prod(2 * reach)), 20000)
    candidates = vesicle.centre_zyx + rng.uniform(-1, 1, (count, 3)) * reach
    inside = candidates[vesicle.outside(candidates) < -4.0]
    direction = rng.normal(size=(int(rng.uniform(0, 0.008) * 4 * np.pi * vesicle.radius_voxels**2), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centres = np.concatenate([inside, vesicle.centre_zyx + direction * (reach + 2.0)])
    return globules(centres[slab.contains(centres)], voxel_angstrom, rng)


def aggregate(centre: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator) -> Beads:
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


def filament(centre: NDArray[np.float64], slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
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


def gold(centres: NDArray[np.float64], voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """Dense balls of 3 to 6 nm across, at `(n, 3)` centres."""
    sigma = rng.uniform(15, 30, len(centres)) / voxel_angstrom
    return Beads(position=centres, mass=GOLD_DENSITY * (2 * np.pi) ** 1.5 * sigma**3, sigma=sigma)


def contamination(slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Beads:
    """One lump of ice or dirt on a surface of the ice: a heap of wide beads, partly outside the slab."""
    _, height, width = slab.shape_zyx
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    place = np.array(y), np.array(x)
    surface = float(slab.middle(*place)) + rng.choice([-0.5, 0.5]) * float(slab.thickness(*place))
    size = float(np.exp(rng.uniform(np.log(80), np.log(500)))) / voxel_angstrom
    count = int(rng.integers(8, 60))
    position = np.array([surface, y, x]) + rng.normal(size=(count, 3)) * size * np.array([0.3, 0.5, 0.5])
    sigma = rng.uniform(0.1, 0.3, count) * size
    return Beads(
        position=position,
        mass=rng.uniform(0.1, 0.8) * rng.gamma(1.0, size=count) * (2 * np.pi) ** 1.5 * sigma**3,
        sigma=sigma,
    )


def cargo(
    centres: NDArray[np.float64],
    size: NDArray[np.float64],
    mass: float,
    voxel_angstrom: float,
    rng: np.random.Generator,
    beads: int = 320,
) -> Beads:
    """RNA of about `mass` kDa, in uneven clumps, in each capsid at `(n, 3)` centres with `(n, 3)` relative sizes."""
    count = len(centres)
    direction = rng.normal(size=(count, beads, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    radius = VLP_INNER_RADIUS_ANGSTROM / voxel_angstrom * rng.random((count, beads, 1)) ** (1 / 3)
    share = rng.gamma(1.0, size=(count, beads))
    share /= share.sum(axis=1, keepdims=True)
    offset = direction * radius * size.mean(axis=1)[:, None, None]
    offset -= (share[..., None] * offset).sum(axis=1, keepdims=True)  # the capsid's centre of mass stays where it is
    return Beads(
        position=(centres[:, None] + offset).reshape(-1, 3),
        mass=(mass * rng.uniform(0.5, 1.3, (count, 1)) * share).reshape(-1),
        sigma=np.full(count * beads, RNA_SIGMA_ANGSTROM / voxel_angstrom),
    )
