"""Closed membranes, drawn straight onto the density volume."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.placement import Slab

HEADGROUP_DENSITY = 0.55
"""Peak density of a leaflet in kDa per voxel of 10 Å; protein is about 0.8."""
LEAFLET_OFFSET_ANGSTROM = 19.0
"""Half the distance between the phosphate layers of a bilayer (about 38 Å)."""
LEAFLET_SIGMA_ANGSTROM = 7.0
MEMBRANE_HALF_VOXELS = 3.0
"""Half the thickness of a bilayer with its blur, in voxels of 10 Å."""
RIPPLES = 6
SMALLEST_RADIUS_ANGSTROM, LARGEST_RADIUS_ANGSTROM = 120.0, 1400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Vesicle:
    """A closed bilayer whose radius depends smoothly on the direction, flattened where the ice is thin."""

    centre_zyx: NDArray[np.float64]
    """`(3,)` in voxels."""
    radius_voxels: float
    """Mean radius in the xy plane."""
    flattening: float
    """Extent along z over that in the plane, at most 1."""
    ripple_wave: NDArray[np.float64]
    """`(RIPPLES, 3)` wave vectors of the radius over the unit direction."""
    ripple_phase: NDArray[np.float64]
    """`(RIPPLES,)`."""
    ripple_amplitude: NDArray[np.float64]
    """`(RIPPLES,)`, relative to the radius."""
    strength: float
    """Density relative to `HEADGROUP_DENSITY`."""

    def outside(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n,)` how far `(n, 3)` positions zyx lie outside the membrane, in voxels; negative inside.

        To first order: what it is in the space in which the vesicle is round, over how fast that changes where it is
        flat.
        """
        axes = np.array([self.flattening, 1.0, 1.0])
        offset = (position - self.centre_zyx) / axes
        distance = np.linalg.norm(offset, axis=-1) + 1e-9
        ripple = np.sin(offset / distance[..., None] @ self.ripple_wave.T + self.ripple_phase) @ self.ripple_amplitude
        change = (np.linalg.norm(offset / axes, axis=-1) + 1e-9) / distance
        return np.asarray((distance - self.radius_voxels * np.maximum(1 + ripple, 0.3)) / change)


def draw_vesicle(slab: Slab, voxel_angstrom: float, rng: np.random.Generator) -> Vesicle:
    """A vesicle somewhere in the ice, of random size, shape and strength."""
    low, high = np.log(SMALLEST_RADIUS_ANGSTROM), np.log(LARGEST_RADIUS_ANGSTROM)
    radius = float(np.exp(rng.uniform(low, high))) / voxel_angstrom
    y, x = slab.draw_across(1, rng)
    flattening = min(1.0, 0.45 * float(slab.thickness(y, x)[0]) / radius)
    z = slab.draw_heights(y, x, 0.9 * radius * flattening, rng)
    return Vesicle(
        centre_zyx=np.concatenate([z, y, x]),
        radius_voxels=radius,
        flattening=flattening,
        ripple_wave=rng.normal(0, 1.6, (RIPPLES, 3)),
        ripple_phase=rng.uniform(0, 2 * np.pi, RIPPLES),
        ripple_amplitude=rng.normal(0, rng.choice([0.01, 0.04, 0.1]), RIPPLES),
        strength=rng.uniform(0.6, 1.6),
    )


@njit(cache=True, parallel=True)
def _draw_vesicle(volume, low, high, centre, flattening, radius, wave, phase, amplitude, swing, peak, offset, sigma):  # type: ignore[no-untyped-def]
    reach = offset + 4.0 * sigma
    for z in prange(low[0], high[0]):
        dz = (z - centre[0]) / flattening
        for y in range(low[1], high[1]):
            dy = y - centre[1]
            for x in range(low[2], high[2]):
                dx = x - centre[2]
                distance = np.sqrt(dz * dz + dy * dy + dx * dx) + 1e-9
                change = (np.sqrt((dz / flattening) ** 2 + dy * dy + dx * dx) + 1e-9) / distance
                if abs(distance - radius) > swing * radius + reach * change:
                    continue
                factor = 1.0
                for i in range(len(phase)):
                    turned = wave[i, 0] * dz + wave[i, 1] * dy + wave[i, 2] * dx
                    factor += amplitude[i] * np.sin(turned / distance + phase[i])
                outside = (distance - radius * max(factor, 0.3)) / change
                if abs(outside) < reach:
                    outer = (outside - offset) / sigma
                    inner = (outside + offset) / sigma
                    volume[z, y, x] += peak * (np.exp(-0.5 * outer * outer) + np.exp(-0.5 * inner * inner))


def add_vesicle(density: NDArray[np.float32], vesicle: Vesicle, voxel_angstrom: float) -> None:
    """Add a bilayer to a `(z, y, x)` density, in place."""
    swing = float(np.abs(vesicle.ripple_amplitude).sum())
    reach = np.array([vesicle.flattening, 1.0, 1.0]) * vesicle.radius_voxels * (1 + swing) + 6
    low = np.maximum(np.floor(vesicle.centre_zyx - reach), 0).astype(np.int64)
    high = np.minimum(np.ceil(vesicle.centre_zyx + reach) + 1, density.shape).astype(np.int64)
    _draw_vesicle(
        density,
        low,
        np.maximum(low, high),
        vesicle.centre_zyx,
        vesicle.flattening,
        vesicle.radius_voxels,
        vesicle.ripple_wave,
        vesicle.ripple_phase,
        vesicle.ripple_amplitude,
        swing,
        vesicle.strength * HEADGROUP_DENSITY,
        LEAFLET_OFFSET_ANGSTROM / voxel_angstrom,
        LEAFLET_SIGMA_ANGSTROM / voxel_angstrom,
    )
