"""Denoising by a trained network in place of filters: what it is shown, and what is made of its answer.

Real tomograms are denoised by a network that was trained on pairs of noisy recordings. The one here was trained on
recordings of simulated specimens (`training/denoiser`), so that it smooths along membranes, takes noise for structure
and makes particles granular as such networks do, none of which a filter can.
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.simulation.nuisance_ranges import Uniform
from kaggle_cryoet.simulation.nuisances import Nuisances

if TYPE_CHECKING:
    from torch import nn

DENOISERS = ("filters", "network", "either")
DENOISED_BY_NETWORK = "denoised"
"""The type of reconstruction that a network may denoise."""
SHIPPED_DENOISER = Path(__file__).parent / "denoiser"


@dataclass(frozen=True, kw_only=True)
class NetworkDenoising:
    """One way of denoising a recording by the network."""

    recording_noise: float
    """Noise of the recording that the network is shown, over that of the `denoised` reconstruction by filters."""
    deconvolution_strength: float
    """Signal-to-noise ratio at zero frequency that the deconvolution of the recording assumes."""
    deconvolution_falloff_angstrom: float
    """Resolution at which that ratio has fallen to 1 / e."""
    noise_left: float
    """Share of the recording that is left in, beside the network's answer."""
    bright_suppression: float
    """As in `Nuisances`, which it replaces."""
    dark_exponent: float
    """As in `Nuisances`, which it replaces."""

    def __post_init__(self) -> None:
        """Check that every value is finite and not negative."""
        for item in fields(self):
            value = getattr(self, item.name)
            if not np.isfinite(value) or value < 0:
                raise InputError(f"{item.name} must be a finite number that is not negative, got {value}")

    def adapted(self, nuisances: Nuisances) -> Nuisances:
        """What remains to be done after the network: what it takes away of the background is its own affair."""
        return replace(
            nuisances,
            background_loss=0.0,
            bright_suppression=self.bright_suppression,
            dark_exponent=self.dark_exponent,
        )


NETWORK_RANGES = {
    "recording_noise": Uniform(0.6, 3.0, log=True),
    "deconvolution_strength": Uniform(30, 3000, log=True),
    "deconvolution_falloff_angstrom": Uniform(0, 60),
    "noise_left": Uniform(0.1, 0.6, log=True),
    "bright_suppression": Uniform(0.7, 1.0),
    "dark_exponent": Uniform(0.7, 1.0),
}
"""The distribution of each field of `NetworkDenoising`."""


def draw_network_denoising(rng: np.random.Generator) -> NetworkDenoising:
    """One way of denoising, from `NETWORK_RANGES`."""
    return NetworkDenoising(**{name: span.at(rng.random()) for name, span in NETWORK_RANGES.items()})


def draw_denoising(denoiser: str, seed: int, number: int) -> NetworkDenoising | None:
    """How run `number` of a set is denoised; None by filters. Of `either`, every other run is by the network."""
    check_denoiser(denoiser)
    if denoiser == "filters" or (denoiser == "either" and number % 2 == 0):
        return None
    return draw_network_denoising(np.random.default_rng((seed, number, 2)))


def denoising_of(tomogram_type: str, denoising: NetworkDenoising | None) -> NetworkDenoising | None:
    """How a network denoises a reconstruction of a type: `DENOISED_BY_NETWORK` as is said, all others by filters."""
    return denoising if tomogram_type == DENOISED_BY_NETWORK else None


def check_denoiser(denoiser: str) -> None:
    """Raise an `InputError` unless it is one of `DENOISERS`."""
    if denoiser not in DENOISERS:
        raise InputError(f"unknown denoiser {denoiser!r}; expected one of {', '.join(DENOISERS)}")


def denoise_by_network(
    recording: NDArray[np.float32], denoising: NetworkDenoising, nuisances: Nuisances
) -> NDArray[np.float32]:
    """What the network and the low pass after it make of a `(z, y, x)` recording."""
    import scipy.fft

    from kaggle_cryoet.models.denoiser import denoised

    recording = (recording - recording.mean(dtype=np.float64)).astype(np.float32)
    recording /= recording.std(dtype=np.float64).astype(np.float32)
    volume = denoised(_shipped_denoiser(), recording)
    volume += np.float32(denoising.noise_left) * recording
    spectrum = scipy.fft.rfftn(volume, workers=get_num_threads(), overwrite_x=True)
    depth, height, width = volume.shape
    for z, kz in enumerate(np.fft.fftfreq(depth)):  # section by section, which needs no volume of radii
        radius = np.sqrt(kz**2 + np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2)
        gain = np.exp(-0.5 * (radius / nuisances.cutoff_per_voxel) ** nuisances.cutoff_exponent)
        spectrum[z] *= gain.astype(np.float32)
    volume = scipy.fft.irfftn(spectrum, s=volume.shape, workers=get_num_threads(), overwrite_x=True)
    return np.ascontiguousarray(volume, dtype=np.float32)


@cache
def _shipped_denoiser() -> "nn.Module":
    from kaggle_cryoet.models.denoiser import load_denoiser

    return load_denoiser(SHIPPED_DENOISER)
