"""Closed membranes and the edge of the carbon film, drawn straight onto the density volume."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

HEADGROUP_DENSITY = 0.55
"""Peak density of a leaflet in kDa per voxel of 10 Å; protein is about 0.8."""
LEAFLET_OFFSET_ANGSTROM = 19.0
"""Half the distance between the phosphate layers of a bilayer (about 38 Å)."""
LEAFLET_SIGMA_ANGSTROM = 7.0
RIPPLES = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Vesicle:
    """A closed bilayer whose radius depends smoothly on the direction from its centre."""

    centre_zyx: NDArray[np.float64]
    """`(3,)` in voxels."""
    radius_voxels: float
    """Mean radius."""
    ripple_wave: NDArray[np.float64]
    """`(RIPPLES, 3)` wave vectors of the radius over the unit direction."""
    ripple_phase: NDArray[np.float64]
    """`(RIPPLES,)`."""
    ripple_amplitude: NDArray[np.float64]
    """`(RIPPLES,)`, relative to the radius."""
    strength: float
    """Density relative to `HEADGROUP_DENSITY`."""


def draw_vesicle(centre_zyx: NDArray[np.float64], radius_voxels: float, rng: np.random.Generator) -> Vesicle:
    """A vesicle at a place and of a size, of random shape and strength."""
    return Vesicle(
        centre_zyx=centre_zyx,
        radius_voxels=radius_voxels,
        ripple_wave=rng.normal(0, 1.6, (RIPPLES, 3)),
        ripple_phase=rng.uniform(0, 2 * np.pi, RIPPLES),
        ripple_amplitude=rng.normal(0, rng.choice([0.01, 0.04, 0.1]), RIPPLES),
        strength=rng.uniform(0.6, 1.4),
    )


@njit(cache=True)
def _radius(dz, dy, dx, radius, wave, phase, amplitude):  # type: ignore[no-untyped-def]
    """Distance from the centre at which the membrane lies in the direction of an offset."""
    norm = np.sqrt(dz * dz + dy * dy + dx * dx) + 1e-9
    factor = 1.0
    for i in range(len(phase)):
        factor += amplitude[i] * np.sin((wave[i, 0] * dz + wave[i, 1] * dy + wave[i, 2] * dx) / norm + phase[i])
    return radius * max(factor, 0.3)


@njit(cache=True, parallel=True)
def _draw_vesicle(volume, low, high, centre, radius, wave, phase, amplitude, peak, offset, sigma):  # type: ignore[no-untyped-def]
    for z in prange(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                dz, dy, dx = z - centre[0], y - centre[1], x - centre[2]
                distance = np.sqrt(dz * dz + dy * dy + dx * dx)
                if abs(distance - radius) > 0.7 * radius + 8.0:
                    continue
                outside = distance - _radius(dz, dy, dx, radius, wave, phase, amplitude)
                if abs(outside) < offset + 4.0 * sigma:
                    outer = (outside - offset) / sigma
                    inner = (outside + offset) / sigma
                    volume[z, y, x] += peak * (np.exp(-0.5 * outer * outer) + np.exp(-0.5 * inner * inner))


def add_vesicle(density: NDArray[np.float32], vesicle: Vesicle, voxel_angstrom: float) -> None:
    """Add a bilayer to a `(z, y, x)` density, in place."""
    reach = vesicle.radius_voxels * (1 + np.abs(vesicle.ripple_amplitude).sum()) + 6
    low = np.maximum(np.floor(vesicle.centre_zyx - reach), 0).astype(np.int64)
    high = np.minimum(np.ceil(vesicle.centre_zyx + reach) + 1, density.shape).astype(np.int64)
    if (high <= low).any():
        return
    _draw_vesicle(
        density,
        low,
        high,
        vesicle.centre_zyx,
        vesicle.radius_voxels,
        vesicle.ripple_wave,
        vesicle.ripple_phase,
        vesicle.ripple_amplitude,
        vesicle.strength * HEADGROUP_DENSITY,
        LEAFLET_OFFSET_ANGSTROM / voxel_angstrom,
        LEAFLET_SIGMA_ANGSTROM / voxel_angstrom,
    )


def inside_vesicle(vesicle: Vesicle, position: NDArray[np.float64], margin_voxels: float) -> NDArray[np.bool_]:
    """`(n,)` whether `(n, 3)` positions zyx are within the vesicle's membrane by at least a margin."""
    offset = position - vesicle.centre_zyx
    distance = np.linalg.norm(offset, axis=1)
    direction = offset / (distance[:, None] + 1e-9)
    ripple = np.sin(direction @ vesicle.ripple_wave.T + vesicle.ripple_phase) @ vesicle.ripple_amplitude
    return np.asarray(distance < vesicle.radius_voxels * np.maximum(1 + ripple, 0.3) - margin_voxels)


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
    density: float
    """In kDa per voxel of 10 Å."""

    def covers(self, position: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`(n,)` whether `(n, 3)` positions zyx lie over, in or under the film."""
        y, x = position[..., 1] - self.hole_centre_yx[0], position[..., 2] - self.hole_centre_yx[1]
        return np.asarray(np.hypot(y, x) > self.hole_radius_voxels)


def draw_carbon_film(shape_zyx: tuple[int, int, int], rng: np.random.Generator) -> CarbonFilm:
    """A film that covers between nothing and a third of the field's width."""
    depth, height, width = shape_zyx
    radius = rng.uniform(0.6, 1.5) * 800.0
    angle = rng.uniform(0, 2 * np.pi)
    half = min(height, width) / 2
    distance = radius - half * rng.uniform(0.3, 1.0)
    thickness = rng.uniform(10, 25)
    return CarbonFilm(
        hole_centre_yx=(height / 2 + distance * np.sin(angle), width / 2 + distance * np.cos(angle)),
        hole_radius_voxels=radius,
        bottom_voxels=rng.uniform(0.1, 0.9) * (depth - thickness),
        thickness_voxels=thickness,
        rim_voxels=rng.uniform(4, 20),
        rim_strength=rng.uniform(1.0, 2.5),
        density=rng.uniform(0.3, 0.9),
    )


@njit(cache=True, parallel=True)
def _draw_film(volume, texture, hole_y, hole_x, hole_radius, bottom, top, rim, rim_strength, density):  # type: ignore[no-untyped-def]
    depth, height, width = volume.shape
    for y in prange(height):
        for x in range(width):
            outside = np.sqrt((y - hole_y) ** 2 + (x - hole_x) ** 2) - hole_radius
            if outside < -2.0:
                continue
            across = min(max((outside + 2.0) / 4.0, 0.0), 1.0)
            strength = density * across * (1.0 + (rim_strength - 1.0) * np.exp(-max(outside, 0.0) / rim))
            for z in range(max(int(bottom), 0), min(int(top) + 1, depth)):
                volume[z, y, x] += strength * texture[z % texture.shape[0], y % texture.shape[1], x % texture.shape[2]]


def add_carbon_film(density: NDArray[np.float32], film: CarbonFilm, rng: np.random.Generator) -> None:
    """Add a film of rough, amorphous carbon to a `(z, y, x)` density, in place."""
    roughness = rng.uniform(0.1, 0.6)
    texture = 1 + roughness * rng.standard_normal((32, 128, 128), dtype=np.float32)
    _draw_film(
        density,
        texture,
        film.hole_centre_yx[0],
        film.hole_centre_yx[1],
        film.hole_radius_voxels,
        film.bottom_voxels,
        film.bottom_voxels + film.thickness_voxels,
        film.rim_voxels,
        film.rim_strength,
        film.density,
    )
