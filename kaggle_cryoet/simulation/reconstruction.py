"""From a recorded tilt series to volumes: the competition's four reconstructions differ in what is filtered and how."""

from collections.abc import Sequence

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.runs import TOMOGRAM_TYPES
from kaggle_cryoet.simulation.denoise import DENOISED_TYPES
from kaggle_cryoet.simulation.microscope import (
    PATTERN_FREQUENCY,
    RADIAL_MAXIMUM,
    RADIAL_SAMPLES,
    SIGNAL_UNIT,
    Recording,
    TiltSeries,
    contrast_transfer,
    look_up,
    padded_spectrum,
    ramp,
    record,
    transfer_of,
)
from kaggle_cryoet.simulation.network_denoising import NetworkDenoising, denoise_by_network, denoising_of
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.structure import background_level, give_back

DECONVOLUTION_FALLOFF_ANGSTROM = 100.0
"""Resolution at which the signal-to-noise ratio that the deconvolution assumes has fallen to 1 / e of that at zero."""
DECONVOLUTION_STRENGTH = 1000.0
"""That ratio at zero frequency."""
DECONVOLUTION_HIGHPASS_PER_ANGSTROM = 1 / 2000.0
"""Below this frequency the deconvolution gives nothing back."""


def reconstruct_types(
    density: NDArray[np.float32],
    series: TiltSeries,
    nuisances: Nuisances,
    rng: np.random.Generator,
    tomogram_types: Sequence[str],
    denoising: NetworkDenoising | None = None,
) -> dict[str, NDArray[np.float32]]:
    """`(z, y, x)` volume of each type, of one recording: particles dark, noise of about unit strength, before `finish`.

    `denoised` is what a network makes of the recording if it is said how, what filters make of it otherwise.

    Raises
    ------
    InputError
        If a type is unknown.
    """
    check_types(tomogram_types)
    recording = record(density, series, nuisances, rng)
    return {
        name: _reconstruct(recording, density, series, nuisances, name, denoising_of(name, denoising))
        for name in tomogram_types
    }


def recorded_parts(
    density: NDArray[np.float32],
    series: TiltSeries,
    nuisances: Nuisances,
    rng: np.random.Generator,
    denoising: NetworkDenoising,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`(z, y, x)` signal and noise, each for itself, of the recording that a network is shown.

    Without what `leakage` adds to it where nothing was recorded.
    """
    recording = record(density, series, nuisances, rng)
    signal_gain, noise_gain = _shown_gains(nuisances, denoising, series.voxel_angstrom)
    nothing = np.zeros_like(signal_gain)
    signal = _volume(recording, _combined(recording, signal_gain, nothing, 0.0))
    return signal, _volume(recording, _combined(recording, nothing, noise_gain, 0.0))


def check_types(tomogram_types: Sequence[str]) -> None:
    """Raise an `InputError` unless all are `TOMOGRAM_TYPES`, there is one at least, and none comes twice."""
    unknown = [name for name in tomogram_types if name not in TOMOGRAM_TYPES]
    if unknown or not tomogram_types or len(set(tomogram_types)) < len(tomogram_types):
        raise InputError(
            f"expected one or more of the tomogram types {', '.join(TOMOGRAM_TYPES)}, each once, "
            f"got {', '.join(tomogram_types) or 'none'}"
        )


def deconvolution(
    frequency_per_angstrom: NDArray[np.float64],
    defocus_angstrom: float,
    amplitude_contrast: float,
    phase_shift_degree: float = 0.0,
    *,
    flipped: bool,
    strength: float = DECONVOLUTION_STRENGTH,
    falloff_angstrom: float = DECONVOLUTION_FALLOFF_ANGSTROM,
) -> NDArray[np.float64]:
    """Wiener-like filter against the contrast transfer function, 1 at its largest.

    Source: the deconvolution of Warp (Tegunov and Cramer, Nat. Methods 16, 2019), which IsoNet uses as well.
    """
    ctf = contrast_transfer(frequency_per_angstrom, defocus_angstrom, amplitude_contrast, phase_shift_degree)
    ctf = np.abs(ctf) if flipped else ctf
    ratio = strength * np.exp(-frequency_per_angstrom * falloff_angstrom)
    ratio *= 1 - np.exp(-0.5 * (frequency_per_angstrom / DECONVOLUTION_HIGHPASS_PER_ANGSTROM) ** 2)
    gain = ctf * ratio / (1 + ctf**2 * ratio)
    return np.asarray(gain / np.abs(gain).max())


def _reconstruct(
    recording: Recording,
    density: NDArray[np.float32],
    series: TiltSeries,
    nuisances: Nuisances,
    tomogram_type: str,
    denoising: NetworkDenoising | None,
) -> NDArray[np.float32]:
    per_voxel = np.linspace(0, RADIAL_MAXIMUM, RADIAL_SAMPLES)
    per_angstrom = per_voxel / series.voxel_angstrom
    low_pass = np.exp(-0.5 * (per_voxel / nuisances.softness_per_voxel) ** nuisances.softness_exponent)
    low_pass *= np.exp(-0.5 * (per_voxel / nuisances.cutoff_per_voxel) ** nuisances.cutoff_exponent)
    deconvolved = deconvolution(per_angstrom, *transfer_of(nuisances), flipped=nuisances.phase_flipped)
    signal_gain, noise_gain = {
        "denoised": (low_pass, low_pass),
        "isonetcorrected": (low_pass * deconvolved, low_pass * deconvolved),
        "ctfdeconvolved": (deconvolved, nuisances.raw_noise * deconvolved),
        "wbp": (np.ones_like(per_voxel), np.full_like(per_voxel, nuisances.raw_noise)),
    }[tomogram_type]
    if denoising is not None:
        signal_gain, noise_gain = _shown_gains(nuisances, denoising, series.voxel_angstrom)
    leakage = nuisances.leakage if tomogram_type in DENOISED_TYPES else 0.0
    spectrum = _combined(recording, signal_gain, noise_gain, leakage)
    if tomogram_type == "isonetcorrected":
        full = padded_spectrum(density)
        full *= np.float32(-nuisances.wedge_filled * nuisances.signal_per_noise / SIGNAL_UNIT)
        # what is recorded has the sign of the transfer function, which the gain turns back, flipped or not
        transfer = np.abs(series.transfer).mean(axis=0) * np.abs(signal_gain).astype(np.float32)
        lowest, highest = series.angle_radian.min(), series.angle_radian.max()
        width = recording.shape_zyx[2]
        _fill_wedge(spectrum, full, width, lowest, highest, transfer, series.ramp_limit_per_voxel)
    volume = _volume(recording, spectrum)
    if denoising is not None:
        return denoise_by_network(volume, denoising, nuisances)
    if tomogram_type == "denoised":
        slow_gain = low_pass * (_restoration(per_angstrom, nuisances) - 1)
        slow = _volume(recording, _combined(recording, slow_gain, np.zeros_like(slow_gain), 0.0))
        volume -= background_level(volume)
        give_back(volume, slow, nuisances.slow_withheld)
    return volume


def _shown_gains(
    nuisances: Nuisances, denoising: NetworkDenoising, voxel_angstrom: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radial gains of signal and noise in the recording that a network is shown."""
    per_voxel = np.linspace(0, RADIAL_MAXIMUM, RADIAL_SAMPLES)
    gain = deconvolution(
        per_voxel / voxel_angstrom,
        *transfer_of(nuisances),
        flipped=nuisances.phase_flipped,
        strength=denoising.deconvolution_strength,
        falloff_angstrom=denoising.deconvolution_falloff_angstrom,
    )
    # white but for streaks: the slow changes that filters are given stand for those that this deconvolution makes
    slow = 1 + nuisances.fixed_pattern * np.exp(-0.5 * (per_voxel / PATTERN_FREQUENCY) ** 2)
    return gain, denoising.recording_noise * gain / slow


def _combined(
    recording: Recording, signal_gain: NDArray[np.float64], noise_gain: NDArray[np.float64], leakage: float
) -> NDArray[np.complex64]:
    """Half spectrum of signal and noise after radial gains; what no image reaches has a share of the noise."""
    spectrum = np.empty_like(recording.signal)
    _combine(
        spectrum,
        recording.signal,
        recording.noise,
        recording.reached,
        recording.shape_zyx[2],
        signal_gain.astype(np.float32),
        noise_gain.astype(np.float32),
        np.float32(leakage),
    )
    return spectrum


def _volume(recording: Recording, spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    """`(z, y, x)` volume of a half spectrum, which is used up, without its padding."""
    import scipy.fft

    depth, height, width = recording.shape_zyx
    shape = (recording.depth, height, width)
    return np.ascontiguousarray(
        scipy.fft.irfftn(spectrum, s=shape, workers=get_num_threads(), overwrite_x=True)[:depth]
    )


def _restoration(frequency_per_angstrom: NDArray[np.float64], nuisances: Nuisances) -> NDArray[np.float64]:
    """Gain that gives a share of the transfer lost below the first maximum of the transfer function back."""
    ctf = np.abs(contrast_transfer(frequency_per_angstrom, *transfer_of(nuisances)))
    before_maximum = np.cumprod(np.diff(ctf, prepend=0) >= 0).astype(bool)
    return np.where(before_maximum, 1 + nuisances.low_frequency_restoration * (1 - ctf) / np.maximum(ctf, 1e-3), 1.0)


@njit(cache=True, parallel=True)
def _combine(spectrum, signal, noise, reached, width, signal_gain, noise_gain, leakage):  # type: ignore[no-untyped-def]
    nz, ny, half = spectrum.shape
    for z in prange(nz):
        kz = (z if z <= nz // 2 else z - nz) / nz
        for y in range(ny):
            ky = (y if y <= ny // 2 else y - ny) / ny
            for x in range(half):
                radius = np.sqrt((x / width) ** 2 + ky * ky + kz * kz)
                share = np.float32(1.0) if reached[z, x] else leakage
                gained = signal[z, y, x] * look_up(signal_gain, radius)
                spectrum[z, y, x] = gained + noise[z, y, x] * (share * look_up(noise_gain, radius))


@njit(cache=True, parallel=True)
def _fill_wedge(spectrum, full, width, lowest_angle, highest_angle, transfer, ramp_limit):  # type: ignore[no-untyped-def]
    """Add to `spectrum` what `full` has outside the tilt range."""
    nz, ny, half = spectrum.shape
    for z in prange(nz):
        kz = (z if z <= nz // 2 else z - nz) / nz
        for x in range(half):
            angle = 0.0 if x == 0 and z == 0 else np.arctan2(abs(kz) if x == 0 else kz, x / width)
            if lowest_angle <= angle <= highest_angle:
                continue
            across = max(np.hypot(x / width, kz), 1e-6)
            levelled = np.float32(ramp(across, ramp_limit) / across)
            for y in range(ny):
                ky = (y if y <= ny // 2 else y - ny) / ny
                radius = np.sqrt((x / width) ** 2 + ky * ky + kz * kz)
                spectrum[z, y, x] += full[z, y, x] * (levelled * look_up(transfer, radius))
