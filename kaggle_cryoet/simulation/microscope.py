"""From a specimen's density to what a tilt series recorded of it, in Fourier space.

By the Fourier slice theorem the image at tilt angle t is a plane through the specimen's transform that holds the tilt
axis y; weighted back-projection puts the plane back. Over a volume `nz` voxels thick each plane is about 1 / nz cycles
per voxel wide. Transfer functions, dose damping, alignment errors and noise therefore act on planes, and the whole
series is one multiplication in Fourier space, streaks between the planes included.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.simulation.nuisances import Nuisances

ELECTRON_WAVELENGTH_ANGSTROM = 0.0197
"""At 300 kV, relativistic."""
SPHERICAL_ABERRATION_ANGSTROM = 2.7e7
MEAN_FREE_PATH_ANGSTROM = 3000.0
"""Of electrons in ice, before they lose their direction or energy."""
RADIAL_SAMPLES = 1024
RADIAL_MAXIMUM = 0.9
"""In cycles per voxel; the corner of a cubic grid is at sqrt(3) / 2."""
PATTERN_FREQUENCY = 0.04
"""Width of the spectrum of slow background changes, in cycles per voxel."""
STREAK_FREQUENCY_ALONG, STREAK_FREQUENCY_ACROSS = 0.03, 0.15
"""Widths of the spectrum of streaks along the tilt axis, in cycles per voxel along it and across it."""
ACROSS_FALLOFF = 0.05
"""Standard deviation, in cycles per voxel, of the fall beyond the cutoff of the filter across the tilt axis."""
SIGNAL_UNIT = 0.3
"""Density in kDa per voxel of 10 Å that is as strong as the noise; calibrated to real slices (docs/simulation.md)."""


def contrast_transfer(
    frequency_per_angstrom: NDArray[np.float64],
    defocus_angstrom: float,
    amplitude_contrast: float,
    phase_shift_degree: float = 0.0,
) -> NDArray[np.float64]:
    """Contrast transfer function, positive where protein is dark at low frequency.

    Source: Rohou and Grigorieff, CTFFIND4, J. Struct. Biol. 192 (2015), equations 1 and 2, underfocus positive. The
    shift of a phase plate adds to its phase (Danev, Buijsse, Khoshouei, Plitzko and Baumeister, PNAS 111, 2014).
    """
    squared = np.square(frequency_per_angstrom)
    phase = np.pi * ELECTRON_WAVELENGTH_ANGSTROM * squared * defocus_angstrom
    phase -= 0.5 * np.pi * SPHERICAL_ABERRATION_ANGSTROM * ELECTRON_WAVELENGTH_ANGSTROM**3 * squared**2
    phase += np.arcsin(amplitude_contrast) + np.radians(phase_shift_degree)
    return np.sin(phase)


def transfer_of(nuisances: Nuisances) -> tuple[float, float, float]:
    """Defocus, amplitude contrast and phase shift, as `contrast_transfer` takes them."""
    return nuisances.defocus_angstrom, nuisances.amplitude_contrast, nuisances.phase_shift_degree


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
    step_radian: float
    """Angle between neighbouring images."""
    ramp_limit_per_voxel: float
    """Frequency, in cycles per voxel, about which the ramp that weights the back-projection levels off; the
    exact ramp is that of a limit far above 1. See `ramp`."""
    across_cutoff_per_voxel: float
    """Frequency across the tilt axis, in cycles per voxel, at which the filter of the back-projection begins to fall.
    See `kept_across`."""
    voxel_angstrom: float
    """Of the volume that the transfer is meant for."""


def draw_tilt_series(nuisances: Nuisances, voxel_angstrom: float, rng: np.random.Generator) -> TiltSeries:
    """A dose-symmetric tilt series with drawn defocus errors, alignment errors and missing images."""
    count = int(nuisances.tilt_range_degree / nuisances.tilt_step_degree)
    nominal_degree = np.arange(-count, count + 1) * nuisances.tilt_step_degree
    nominal_degree = nominal_degree[
        (rng.random(len(nominal_degree)) >= nuisances.dropped_tilts) | (nominal_degree == 0)
    ]
    angle = np.radians(nominal_degree + nuisances.tilt_offset_degree)
    frequency = np.linspace(0, RADIAL_MAXIMUM, RADIAL_SAMPLES) / voxel_angstrom
    defocus = nuisances.defocus_angstrom + rng.normal(0, 1000, len(angle))
    path_angstrom = nuisances.ice_thickness_angstrom / np.cos(np.radians(nominal_degree))
    kept = np.exp(-(path_angstrom - nuisances.ice_thickness_angstrom) / MEAN_FREE_PATH_ANGSTROM)
    weight = np.exp(-0.5 * (nominal_degree / nuisances.tilt_weight_degree) ** 2)
    b_factor = nuisances.envelope_angstrom_squared
    b_factor = b_factor + nuisances.damping_angstrom_squared_per_degree * np.abs(nominal_degree)
    _, *rest = transfer_of(nuisances)
    ctf = np.stack([contrast_transfer(frequency, value, *rest) for value in defocus])
    if nuisances.phase_flipped:
        estimated = contrast_transfer(frequency, *transfer_of(nuisances))
        ctf *= np.where(estimated < 0, -1.0, 1.0)
    envelope = np.exp(-0.25 * b_factor[:, None] * frequency**2)  # (tilt, frequency)
    return TiltSeries(
        angle_radian=angle,
        transfer=(ctf * envelope * (kept * weight)[:, None]).astype(np.float32),
        noise=weight.astype(np.float32),
        shift_voxels=rng.normal(0, nuisances.alignment_error_angstrom / voxel_angstrom, (len(angle), 2)),
        step_radian=float(np.radians(nuisances.tilt_step_degree)),
        ramp_limit_per_voxel=nuisances.ramp_limit_per_voxel,
        across_cutoff_per_voxel=nuisances.across_cutoff_per_voxel,
        voxel_angstrom=voxel_angstrom,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Signal and noise of a tilt series, put back into one volume: half spectra of real volumes, z padded."""

    signal: NDArray[np.complex64]
    """`(depth, y, x // 2 + 1)` transform; zero outside the tilt range. Protein is dark."""
    noise: NDArray[np.complex64]
    """The same of the noise, of about unit strength; as drawn where no image reaches, for what denoisers leave."""
    reached: NDArray[np.bool_]
    """`(depth, x // 2 + 1)` whether an image reaches there, whatever the frequency along y."""
    shape_zyx: tuple[int, int, int]
    """Of the volume without its padding."""

    @property
    def depth(self) -> int:
        """Number of sections with padding."""
        return int(self.signal.shape[0])


@njit(cache=True)
def look_up(table, radius):  # type: ignore[no-untyped-def]
    """Value of a table over 0 to `RADIAL_MAXIMUM`, between its samples by a line."""
    position = min(radius / RADIAL_MAXIMUM * (len(table) - 1), len(table) - 1.001)
    left = int(position)
    return table[left] + (table[left + 1] - table[left]) * np.float32(position - left)


@njit(cache=True)
def ramp(frequency: float, limit: float) -> float:
    """Weight of a frequency across the tilt axis: itself well below a limit, the limit well above it.

    The exact weight rises with the frequency throughout. One that levels off is that of a few iterations of SIRT, or of
    a filter made like them (Wolf, Lubk and Lichte, Ultramicroscopy 136, 2014).
    """
    return frequency * (1.0 - math.exp(-limit / frequency))


@njit(cache=True)
def kept_across(frequency: float, cutoff: float) -> float:
    """Share of an amplitude at a frequency across the tilt axis that back-projection keeps, along the axis all of it.

    It draws a line between pixels of an image where a ray meets none, which costs sinc². And the filter with the ramp,
    which runs across the axis only, falls as a Gaussian from a cutoff on, as IMOD's does (Kremer, Mastronarde and
    McIntosh, J. Struct. Biol. 116, 1996; `RADIAL` of its program `tilt`).
    """
    angle = math.pi * frequency
    between = 1.0 if angle == 0.0 else (math.sin(angle) / angle) ** 2
    return between * math.exp(-0.5 * (max(abs(frequency) - cutoff, 0.0) / ACROSS_FALLOFF) ** 2)


@njit(cache=True, parallel=True)
def _apply_series(  # type: ignore[no-untyped-def]
    spectrum,
    noise_spectrum,
    reached,
    depth,
    width,
    angle,
    transfer,
    noise,
    shift,
    step,
    ramp_limit,
    across_cutoff,
    pattern,
    streaks,
):
    """Leave of a `(nz, ny, nx // 2 + 1)` spectrum, in place, what the series holds of it; weight the noise."""
    nz, ny, half = spectrum.shape
    tilts = len(angle)
    for z in prange(nz):
        kz = (z if z <= nz // 2 else z - nz) / nz
        touched = np.empty(tilts, np.int64)
        plane_weight = np.empty(tilts, np.float64)
        for x in range(half):
            kx = x / width
            count = 0
            for t in range(tilts):
                distance = abs(kz * np.cos(angle[t]) - kx * np.sin(angle[t])) * depth
                if distance < 1.0:
                    touched[count] = t
                    u = kx * np.cos(angle[t]) + kz * np.sin(angle[t])
                    plane_weight[count] = (1.0 - distance) * kept_across(u, across_cutoff)
                    count += 1
            per_frequency = step * depth  # distance of neighbouring planes, in their thickness
            lowest = 1.0 / (tilts * per_frequency)  # below it all planes overlap
            scale = per_frequency * ramp(max(np.sqrt(kx * kx + kz * kz), lowest), ramp_limit)
            across_streaks = streaks * np.exp(-0.5 * (kx * kx + kz * kz) / STREAK_FREQUENCY_ACROSS**2)
            reached[z, x] = count > 0
            for y in range(ny):
                if count == 0:
                    spectrum[z, y, x] = 0.0
                    continue
                ky = (y if y <= ny // 2 else y - ny) / ny
                real = 0.0
                imaginary = 0.0
                variance = 0.0
                for i in range(count):
                    t = touched[i]
                    u = kx * np.cos(angle[t]) + kz * np.sin(angle[t])
                    amplitude = plane_weight[i] * look_up(transfer[t], np.sqrt(u * u + ky * ky))
                    phase = -2.0 * np.pi * (ky * shift[t, 0] + u * shift[t, 1])
                    real += amplitude * np.cos(phase)
                    imaginary += amplitude * np.sin(phase)
                    variance += (plane_weight[i] * noise[t]) ** 2
                radius = np.sqrt(kx * kx + ky * ky + kz * kz)
                slow = 1.0 + pattern * np.exp(-0.5 * (radius / PATTERN_FREQUENCY) ** 2)
                slow += across_streaks * np.exp(-0.5 * (ky / STREAK_FREQUENCY_ALONG) ** 2)
                spectrum[z, y, x] *= np.complex64(complex(real * scale, imaginary * scale))
                noise_spectrum[z, y, x] *= np.float32(slow * scale * np.sqrt(variance))


def padded_spectrum(density: NDArray[np.float32]) -> NDArray[np.complex64]:
    """`(depth, y, x // 2 + 1)` transform of a `(z, y, x)` volume.

    The depth is padded by a quarter so that what smears out of the top of the volume does not come back at its bottom.
    """
    import scipy.fft

    nz, ny, nx = density.shape
    padded = np.zeros((scipy.fft.next_fast_len(nz + nz // 4, real=True), ny, nx), dtype=np.float32)
    padded[:nz] = density
    return np.asarray(scipy.fft.rfftn(padded, workers=get_num_threads(), overwrite_x=True), dtype=np.complex64)


def record(
    density: NDArray[np.float32], series: TiltSeries, nuisances: Nuisances, rng: np.random.Generator
) -> Recording:
    """What a tilt series holds of a `(z, y, x)` density in kDa per voxel."""
    shape = (density.shape[0], density.shape[1], density.shape[2])
    signal = padded_spectrum(density)
    signal *= np.float32(-nuisances.signal_per_noise / SIGNAL_UNIT)
    noise = np.empty(signal.shape, dtype=np.complex64)
    for section in noise.view(np.float32):
        rng.standard_normal(dtype=np.float32, out=section)
    noise *= np.float32(np.sqrt(0.5 * signal.shape[0] * shape[1] * shape[2]))
    # of a plane that is its own mirror image the way back takes the part alone that is real there, half of the power
    noise[:, :, 0] *= np.float32(np.sqrt(2.0))
    if shape[2] % 2 == 0:
        noise[:, :, -1] *= np.float32(np.sqrt(2.0))
    reached = np.empty((signal.shape[0], signal.shape[2]), dtype=np.bool_)
    _apply_series(
        signal,
        noise,
        reached,
        float(signal.shape[0]),
        shape[2],
        series.angle_radian,
        series.transfer,
        series.noise,
        series.shift_voxels,
        series.step_radian,
        series.ramp_limit_per_voxel,
        series.across_cutoff_per_voxel,
        nuisances.fixed_pattern,
        nuisances.streaks,
    )
    return Recording(signal=signal, noise=noise, reached=reached, shape_zyx=shape)
