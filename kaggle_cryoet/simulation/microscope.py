"""From a specimen's density to a reconstructed tomogram: tilt series, transfer, noise, back-projection, denoising.

By the Fourier slice theorem the image at tilt angle t is a plane through the specimen's transform that holds the tilt axis y;
weighted back-projection puts the plane back. Over a volume `nz` voxels thick each plane is about 1 / nz cycles per voxel
wide. Transfer functions, dose damping, alignment errors and noise therefore act on planes, and the whole series is one
multiplication in Fourier space, streaks between the planes included.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.nuisances import Nuisances

ELECTRON_WAVELENGTH_ANGSTROM = 0.0197
"""At 300 kV, relativistic."""
SPHERICAL_ABERRATION_ANGSTROM = 2.7e7
RADIAL_SAMPLES = 1024
RADIAL_MAXIMUM = 0.9
"""In cycles per voxel; the corner of a cubic grid is at sqrt(3) / 2."""
PATTERN_FREQUENCY = 0.03
"""Width of the spectrum of slow background changes, in cycles per voxel."""
SIGNAL_UNIT = 0.3
"""Density in kDa per voxel of 10 Å that is as strong as the noise; calibrated to real slices (docs/simulation.md)."""


def contrast_transfer(
    frequency_per_angstrom: NDArray[np.float64], defocus_angstrom: float, amplitude_contrast: float
) -> NDArray[np.float64]:
    """Contrast transfer function, positive where protein is dark at low frequency.

    Source: Rohou and Grigorieff, CTFFIND4, J. Struct. Biol. 192 (2015), equations 1 and 2, underfocus positive.
    """
    squared = np.square(frequency_per_angstrom)
    phase = np.pi * ELECTRON_WAVELENGTH_ANGSTROM * squared * defocus_angstrom
    phase -= 0.5 * np.pi * SPHERICAL_ABERRATION_ANGSTROM * ELECTRON_WAVELENGTH_ANGSTROM**3 * squared**2
    phase += np.arcsin(amplitude_contrast)
    return np.sin(phase)


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltSeries:
    """One acquisition: what each of `n` tilt images did to the signal and the noise."""

    angle_radian: NDArray[np.float64]
    """`(n,)` tilt angles about y."""
    transfer: NDArray[np.float32]
    """`(n, RADIAL_SAMPLES)` signal transfer over 0 to `RADIAL_MAXIMUM` cycles per voxel, weights included."""
    noise: NDArray[np.float32]
    """`(n,)` standard deviation of the noise, weights included."""
    shift_voxels: NDArray[np.float64]
    """`(n, 2)` alignment errors along y and along the image's x."""


def draw_tilt_series(nuisances: Nuisances, voxel_angstrom: float, rng: np.random.Generator) -> TiltSeries:
    """A dose-symmetric tilt series with drawn defocus errors, alignment errors and CTF correction."""
    limit, step = nuisances.tilt_range_degree, nuisances.tilt_step_degree
    count = int(limit / step)
    angle_degree = np.arange(-count, count + 1) * step + rng.normal(0, 0.2)
    angle = np.radians(angle_degree)
    frequency = np.linspace(0, RADIAL_MAXIMUM, RADIAL_SAMPLES) / voxel_angstrom
    defocus = nuisances.defocus_angstrom + rng.normal(0, 1000, len(angle))
    flipped = rng.random() < nuisances.phase_flipped
    # electrons that kept their direction and energy, over a path that grows with the tilt; mean free path 3000 Å
    path_angstrom = nuisances.ice_thickness_angstrom / np.cos(angle)
    signal_kept = np.exp(-(path_angstrom - nuisances.ice_thickness_angstrom) / 3000.0)
    weight = np.exp(-0.5 * (angle_degree / nuisances.tilt_weight_degree) ** 2)
    transfer = np.empty((len(angle), RADIAL_SAMPLES), dtype=np.float32)
    for image in range(len(angle)):
        ctf = contrast_transfer(frequency, defocus[image], nuisances.amplitude_contrast)
        if flipped:
            estimated = contrast_transfer(frequency, nuisances.defocus_angstrom, nuisances.amplitude_contrast)
            ctf = ctf * np.where(estimated < 0, -1.0, 1.0)
        low = np.minimum(1.0, np.abs(ctf) + nuisances.low_frequency_restoration * (1 - np.abs(ctf)))
        before_peak = np.cumprod(np.diff(np.abs(ctf), prepend=0) >= 0).astype(bool)
        restored = np.where(before_peak, low, ctf)
        b_factor = nuisances.envelope_angstrom_squared + nuisances.damping_angstrom_squared_per_degree * abs(
            angle_degree[image]
        )
        transfer[image] = restored * np.exp(-0.25 * b_factor * frequency**2) * signal_kept[image] * weight[image]
    return TiltSeries(
        angle_radian=angle,
        transfer=transfer,
        noise=weight.astype(np.float32),
        shift_voxels=rng.normal(0, nuisances.alignment_error_angstrom / voxel_angstrom, (len(angle), 2)),
    )


@njit(cache=True, parallel=True, fastmath=True)
def _apply_series(
    spectrum, noise_spectrum, depth, width, angle, transfer, noise, shift, radial_maximum, cutoff, exponent, pattern
):  # type: ignore[no-untyped-def]
    """Multiply `spectrum` (nz, ny, nx // 2 + 1) by the series and add `noise_spectrum` (same shape) as it left it."""
    nz, ny, half = spectrum.shape
    tilts = len(angle)
    samples = transfer.shape[1]
    for z in prange(nz):
        kz = (z if z <= nz // 2 else z - nz) / nz
        touched = np.empty(tilts, np.int64)
        plane_weight = np.empty(tilts, np.float64)
        for x in range(half):
            kx = x / width
            count = 0
            total = 0.0
            for t in range(tilts):
                distance = abs(kz * np.cos(angle[t]) - kx * np.sin(angle[t])) * depth
                if distance < 1.0:
                    touched[count] = t
                    plane_weight[count] = 1.0 - distance
                    total += 1.0 - distance
                    count += 1
            scale = 1.0 / max(1.0, total)
            for y in range(ny):
                ky = (y if y <= ny // 2 else y - ny) / ny
                radius = np.sqrt(kx * kx + ky * ky + kz * kz)
                if count == 0:
                    spectrum[z, y, x] = 0.0
                    continue
                real = 0.0
                imaginary = 0.0
                variance = 0.0
                for i in range(count):
                    t = touched[i]
                    u = kx * np.cos(angle[t]) + kz * np.sin(angle[t])
                    position = min(np.sqrt(u * u + ky * ky) / radial_maximum * (samples - 1), samples - 1.001)
                    left = int(position)
                    fraction = position - left
                    amplitude = plane_weight[i] * (
                        transfer[t, left] * (1.0 - fraction) + transfer[t, left + 1] * fraction
                    )
                    phase = -2.0 * np.pi * (ky * shift[t, 0] + u * shift[t, 1])
                    real += amplitude * np.cos(phase)
                    imaginary += amplitude * np.sin(phase)
                    variance += (plane_weight[i] * noise[t]) ** 2
                slow = 1.0 + pattern * np.exp(-0.5 * (radius / PATTERN_FREQUENCY) ** 2)
                filtered = np.exp(-0.5 * (radius / cutoff) ** exponent) * scale
                spectrum[z, y, x] = filtered * (
                    spectrum[z, y, x] * np.complex64(complex(real, imaginary))
                    + noise_spectrum[z, y, x] * np.float32(slow * np.sqrt(variance))
                )


def reconstruct(
    density: NDArray[np.float32],
    series: TiltSeries,
    nuisances: Nuisances,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """`(z, y, x)` tomogram of a `(z, y, x)` density in kDa per voxel: particles dark, noise of about unit strength.

    The depth is padded by a quarter so that what smears out of the top of the volume does not come back at its bottom.
    """
    import scipy.fft

    nz, ny, nx = density.shape
    depth = scipy.fft.next_fast_len(nz + nz // 4, real=True)
    padded = np.zeros((depth, ny, nx), dtype=np.float32)
    padded[:nz] = density
    spectrum = scipy.fft.rfftn(padded, workers=-1, overwrite_x=True)
    del padded
    spectrum *= np.float32(-nuisances.signal_per_noise / SIGNAL_UNIT)
    noise_spectrum = np.empty(spectrum.shape, dtype=np.complex64)
    plane = noise_spectrum.view(np.float32)
    for z in range(depth):
        rng.standard_normal(dtype=np.float32, out=plane[z])
    noise_spectrum *= np.float32(np.sqrt(0.5 * depth * ny * nx))
    _apply_series(
        spectrum,
        noise_spectrum,
        float(depth),
        nx,
        series.angle_radian,
        series.transfer,
        series.noise,
        series.shift_voxels,
        RADIAL_MAXIMUM,
        nuisances.cutoff_per_voxel,
        nuisances.cutoff_exponent,
        nuisances.fixed_pattern,
    )
    del noise_spectrum, plane
    return np.ascontiguousarray(scipy.fft.irfftn(spectrum, s=(depth, ny, nx), workers=-1, overwrite_x=True)[:nz])
