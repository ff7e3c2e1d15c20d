"""The last steps before a tomogram is stored: what a denoiser leaves, uncovered borders, the scale of intensities."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.structure import background_level, background_spread, quieten

DENOISED_TYPES = ("denoised", "isonetcorrected")
BRIGHT_SPREADS = 2.0
"""What is brighter than this many spreads of the background is no noise."""
DARK_SPREADS = 4.0
"""What is darker is structure, whose amplitude the denoiser compresses."""


@njit(cache=True, parallel=True)
def _compress(volume, loss, bright, suppression, dark, exponent):  # type: ignore[no-untyped-def]
    for z in prange(volume.shape[0]):
        for y in range(volume.shape[1]):
            for x in range(volume.shape[2]):
                value = volume[z, y, x]
                if value > 0:
                    excess = max(value - bright, np.float32(0.0))
                    volume[z, y, x] = (value - suppression * excess) * (np.float32(1.0) - loss)
                elif value < -dark:
                    volume[z, y, x] = -dark * (-value / dark) ** exponent


@njit(cache=True, parallel=True)
def _fade(volume, edge, normal_y, normal_x, width, left_over):  # type: ignore[no-untyped-def]
    for y in prange(volume.shape[1]):
        for x in range(volume.shape[2]):
            across = (y * normal_y + x * normal_x - edge) / width
            gain = np.float32(left_over + (1.0 - left_over) / (1.0 + np.exp(-min(max(across, -30.0), 30.0))))
            for z in range(volume.shape[0]):
                volume[z, y, x] *= gain


def compress(
    volume: NDArray[np.float32], *, bright_loss: float, bright_suppression: float, dark_exponent: float
) -> None:
    """Bend, in place, the amplitudes of a volume of median 0.

    All that is bright loses a share `bright_loss`, and what exceeds `BRIGHT_SPREADS` first a share `bright_suppression`
    of the excess: a denoiser that has seen only dark structures takes bright ones, such as the fringes around
    particles, for noise. Below `-DARK_SPREADS` amplitudes grow with the power `dark_exponent`, as it falls short of
    rare, strong contrast.
    """
    spread = background_spread(volume)
    _compress(
        volume,
        np.float32(bright_loss),
        np.float32(BRIGHT_SPREADS * spread),
        np.float32(bright_suppression),
        np.float32(DARK_SPREADS * spread),
        np.float32(dark_exponent),
    )


def fade_border(volume: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Weaken, in place, a narrow wedge along the field's upper or lower border that few tilt images cover."""
    _, height, width = volume.shape
    angle = rng.uniform(-0.08, 0.08)
    reach = rng.uniform(0.0, 0.06) * height
    if rng.random() < 0.5:
        normal_y, edge = np.cos(angle), reach + min(0.0, width * np.sin(angle))
    else:
        normal_y, edge = -np.cos(angle), -(height * np.cos(angle)) + reach + min(0.0, width * np.sin(angle))
    _fade(volume, edge, normal_y, np.sin(angle), rng.uniform(0.5, 3.0), rng.uniform(0.1, 0.6))


def finish(
    volume: NDArray[np.float32], nuisances: Nuisances, rng: np.random.Generator, *, tomogram_type: str = "denoised"
) -> NDArray[np.float32]:
    """Bring a `(z, y, x)` reconstruction, in place, to the looks and the scale of a stored tomogram; its mean is 0."""
    if tomogram_type in DENOISED_TYPES:
        volume -= background_level(volume)
        quieten(volume, nuisances.background_loss)
        compress(
            volume,
            bright_loss=nuisances.bright_loss,
            bright_suppression=nuisances.bright_suppression,
            dark_exponent=nuisances.dark_exponent,
        )
    if nuisances.uncovered_border:
        fade_border(volume, rng)
    volume -= volume.mean(dtype=np.float64).astype(np.float32)
    volume *= np.float32(nuisances.background_spread / background_spread(volume))
    return volume
