"""The carbon film around a round hole, drawn straight onto the density volume."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.placement import Slab

EDGE_VOXELS = 4.0
"""Width over which the film's edge rises."""
TEXTURE_SHAPE_ZYX = (32, 128, 128)
OUTLINE_SAMPLES = 4096
"""Of the hole's outline, around it."""
OUTLINE_WAVES = (20, 500)
"""So many waves around the hole have the longest and the shortest of its unevenness."""
MOST_ROUGH = 3.0
"""The outline leaves the circle by no more than so many of its standard deviations."""
MOST_ASIDE = np.pi / 3
"""Angle within which the film lies on the side where the ice is thicker."""


@dataclass(frozen=True, kw_only=True)
class CarbonFilm:
    """The carbon around a round hole, of which the field of view sees a part."""

    hole_centre_yx: tuple[float, float]
    """In voxels; usually outside the field."""
    hole_radius_voxels: float
    bottom_voxels: float
    """Height z of the film's lower face."""
    thickness_voxels: float
    rim_voxels: float
    """Width of the thicker rim at the hole's edge."""
    rim_strength: float
    """Density of the rim over that of the film."""
    edge_lift_voxels: float
    """Height of the film at the hole's edge over that far from it; negative if it is bent down."""
    edge_reach_voxels: float
    """Distance from the edge over which the lift falls to 1 / e."""
    density: float
    """In kDa per voxel of 10 Å: what protein of the same scattering would weigh."""
    roughness: float
    """Standard deviation of the density from voxel to voxel, relative to its mean."""
    edge_roughness_voxels: float
    """Standard deviation of the hole's outline from a circle."""

    def touches(self, position: NDArray[np.float64], radius: float) -> bool:
        """Whether a ball at `(3,)` zyx reaches into the film."""
        outside = np.hypot(*(position[1:] - self.hole_centre_yx)) - self.hole_radius_voxels
        reach = radius + MOST_ROUGH * self.edge_roughness_voxels  # the outline may come as much nearer
        lifts = [self.lift(outside - reach), self.lift(outside + reach)]
        above = position[0] - radius > self.bottom_voxels + self.thickness_voxels + max(lifts)
        below = position[0] + radius < self.bottom_voxels + min(lifts)
        return bool(outside + reach + EDGE_VOXELS > 0 and not above and not below)

    def lift(self, outside: float) -> float:
        """How much higher the film lies so many voxels outside the hole's edge than far from it."""
        return _lift(outside, self.edge_lift_voxels, self.edge_reach_voxels)  # type: ignore[no-any-return]


def draw_carbon_film(slab: Slab, rng: np.random.Generator) -> CarbonFilm:
    """A film, somewhere in the depth of the ice, that covers between nothing and a third of the field's width.

    If the ice is thicker at one side, it is there.
    """
    _, height, width = slab.shape_zyx
    radius = rng.uniform(480, 1200)
    tapers = any(slab.taper_yx)
    towards = np.arctan2(*slab.taper_yx) if tapers else 0.0
    angle = towards + rng.uniform(-1, 1) * (MOST_ASIDE if tapers else np.pi)
    distance = radius - min(height, width) / 2 * rng.uniform(0.3, 1.0)
    thickness = min(rng.uniform(10, 25), 0.6 * slab.thickness_voxels)
    low, high = slab.z_range()
    return CarbonFilm(
        hole_centre_yx=(height / 2 - distance * np.sin(angle), width / 2 - distance * np.cos(angle)),
        hole_radius_voxels=radius,
        bottom_voxels=rng.uniform(low, max(low, high - thickness)),
        thickness_voxels=thickness,
        rim_voxels=rng.uniform(3, 25),
        rim_strength=rng.uniform(1.0, 2.5),
        edge_lift_voxels=rng.uniform(-50, 50),
        edge_reach_voxels=rng.uniform(15, 60),
        density=rng.uniform(0.4, 1.6),
        roughness=rng.uniform(0.1, 0.6),
        edge_roughness_voxels=rng.uniform(0, min(4.0, 0.01 * min(height, width))),
    )


@njit(cache=True)
def _lift(outside, lift, reach):  # type: ignore[no-untyped-def]
    """Lift of a film, see `CarbonFilm.lift`."""
    return lift * np.exp(-max(outside, 0.0) / reach)


def _outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """`(OUTLINE_SAMPLES,)` unevenness around a hole, of unit standard deviation: the longer a wave the higher it is."""
    waves = np.arange(OUTLINE_SAMPLES // 2 + 1)
    height = np.where((waves >= OUTLINE_WAVES[0]) & (waves <= OUTLINE_WAVES[1]), np.maximum(waves, 1) ** -0.5, 0.0)
    uneven = np.fft.irfft(height * (rng.normal(size=len(waves)) + 1j * rng.normal(size=len(waves))), OUTLINE_SAMPLES)
    return np.asarray(np.clip(uneven / uneven.std(), -MOST_ROUGH, MOST_ROUGH))


@njit(cache=True, parallel=True)
def _draw_film(  # type: ignore[no-untyped-def]
    volume, texture, outline, hole, hole_radius, bottom, thickness, rim, rim_strength, lift, reach, density
):
    depth, height, width = volume.shape
    for y in prange(height):
        for x in range(width):
            turn = np.arctan2(y - hole[0], x - hole[1]) / (2.0 * np.pi) + 0.5
            uneven = outline[min(int(turn * len(outline)), len(outline) - 1)]
            outside = np.sqrt((y - hole[0]) ** 2 + (x - hole[1]) ** 2) - hole_radius - uneven
            if outside < -0.5 * EDGE_VOXELS:
                continue
            across = min(outside / EDGE_VOXELS + 0.5, 1.0)
            strength = density * across * (1.0 + (rim_strength - 1.0) * np.exp(-max(outside, 0.0) / rim))
            low = bottom + _lift(outside, lift, reach)
            high = low + thickness
            for z in range(max(int(np.rint(low)), 0), min(int(np.rint(high)), depth - 1) + 1):
                covered = min(z + 0.5, high) - max(z - 0.5, low)
                grain = texture[z % texture.shape[0], y % texture.shape[1], x % texture.shape[2]]
                volume[z, y, x] += strength * covered * grain


def add_carbon_film(density: NDArray[np.float32], film: CarbonFilm, rng: np.random.Generator) -> None:
    """Add a film of rough, amorphous carbon to a `(z, y, x)` density, in place."""
    texture = 1 + film.roughness * rng.standard_normal(TEXTURE_SHAPE_ZYX, dtype=np.float32)
    _draw_film(
        density,
        texture,
        film.edge_roughness_voxels * _outline(rng),
        film.hole_centre_yx,
        film.hole_radius_voxels,
        film.bottom_voxels,
        film.thickness_voxels,
        film.rim_voxels,
        film.rim_strength,
        film.edge_lift_voxels,
        film.edge_reach_voxels,
        film.density,
    )
