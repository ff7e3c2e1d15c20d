"""From density to recording to volumes: transfer, missing wedge, noise, the four reconstructions."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.runs import TOMOGRAM_TYPES
from kaggle_cryoet.simulation import denoise
from kaggle_cryoet.simulation.denoise import DENOISED_TYPES, compress, fade_border, finish
from kaggle_cryoet.simulation.microscope import (
    ACROSS_FALLOFF,
    RADIAL_MAXIMUM,
    RADIAL_SAMPLES,
    STREAK_FREQUENCY_ACROSS,
    STREAK_FREQUENCY_ALONG,
    TiltSeries,
    contrast_transfer,
    draw_tilt_series,
    kept_across,
    padded_spectrum,
    ramp,
    record,
)
from kaggle_cryoet.simulation.nuisance_ranges import TRAINING
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.reconstruction import deconvolution, reconstruct_types
from kaggle_cryoet.simulation.structure import background_spread

SHAPE = (40, 56, 72)
VOXEL = 10.0


def nuisances(**changes: float | bool) -> Nuisances:
    drawn = TRAINING.draw(np.random.default_rng(0))
    return replace(drawn, **({"tilt_offset_degree": 0.0, "dropped_tilts": 0.0} | changes))  # type: ignore[arg-type]


def ball(shape: tuple[int, int, int] = SHAPE, radius: float = 4.0) -> np.ndarray:
    rows = np.indices(shape)
    distance = np.sqrt(sum((axis - length // 2) ** 2 for axis, length in zip(rows, shape, strict=True)))
    return (0.8 / (1 + np.exp(2 * (distance - radius)))).astype(np.float32)


def plain_series(angles_degree: np.ndarray, **changes: object) -> TiltSeries:
    """Perfect transfer, no shift, the exact ramp, without a cutoff."""
    count = len(angles_degree)
    step = float(np.radians(np.diff(angles_degree).mean())) if count > 1 else 0.05
    values: dict[str, object] = {
        "angle_radian": np.radians(angles_degree),
        "transfer": np.ones((count, RADIAL_SAMPLES), dtype=np.float32),
        "noise": np.ones(count, dtype=np.float32),
        "shift_voxels": np.zeros((count, 2)),
        "step_radian": step,
        "ramp_limit_per_voxel": 100.0,
        "across_cutoff_per_voxel": 100.0,
        "voxel_angstrom": VOXEL,
    }
    return TiltSeries(**(values | changes))  # type: ignore[arg-type]


LOW_LIMIT = 1e-6


def unweighted_series(**changes: object) -> TiltSeries:
    """One untilted image under a ramp that levels off so soon that all frequencies weigh the same."""
    return plain_series(np.zeros(1), ramp_limit_per_voxel=LOW_LIMIT, **changes)


def weight_of_all(depth: int) -> float:
    return LOW_LIMIT * 0.05 * depth  # limit over the frequency at which planes so many radians apart part


def between_pixels() -> np.ndarray:
    """`(x,)` share of amplitudes across the tilt axis that is left by linear interpolation."""
    return np.sinc(np.arange(SHAPE[2] // 2 + 1) / SHAPE[2]) ** 2


def angle_of_spectrum(spectrum: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`(z, x)` angle to the x axis in degrees, and distance from the origin in cycles per voxel."""
    kz, kx = np.fft.fftfreq(len(spectrum))[:, None], (np.arange(spectrum.shape[2]) / width)[None]
    return np.degrees(np.arctan2(np.abs(kz), kx)), np.hypot(kz, kx)


def test_first_zero_of_the_transfer_function_is_where_the_formula_says() -> None:
    defocus, amplitude, wavelength, aberration = 25000.0, 0.1, 0.0197, 2.7e7
    frequency = np.linspace(1e-3, 0.06, 200_001)
    ctf = contrast_transfer(frequency, defocus, amplitude)
    found = frequency[np.flatnonzero(np.diff(np.sign(ctf)))[0]]
    # pi * lambda * defocus * s - pi / 2 * Cs * lambda^3 * s^2 + asin(A) = pi, for s the square of the frequency
    s = np.roots([-0.5 * aberration * wavelength**3, wavelength * defocus, np.arcsin(amplitude) / np.pi - 1])
    assert found == pytest.approx(np.sqrt(s.min()), abs=1e-6)
    assert contrast_transfer(np.zeros(1), defocus, amplitude)[0] == pytest.approx(amplitude)


def test_a_phase_plate_moves_the_zeros_to_where_the_formula_says() -> None:
    defocus, amplitude, shift = 5000.0, 0.1, 90.0
    frequency = np.linspace(0, 0.08, 200_001)
    ctf = contrast_transfer(frequency, defocus, amplitude, shift)
    assert ctf[0] == pytest.approx(np.cos(np.arcsin(amplitude)))
    found = frequency[np.flatnonzero(np.diff(np.sign(ctf)))[0]]
    # as above, half of pi less to go
    s = np.roots([-0.5 * 2.7e7 * 0.0197**3, 0.0197 * defocus, np.arcsin(amplitude) / np.pi - 0.5])
    assert found == pytest.approx(np.sqrt(s.min()), abs=1e-6)


def test_a_phase_plate_records_low_frequencies_that_defocus_alone_loses() -> None:
    series = {
        shift: draw_tilt_series(nuisances(phase_shift_degree=shift), VOXEL, np.random.default_rng(2)).transfer
        for shift in (0.0, 90.0)
    }
    assert (series[90.0][:, 0] > 5 * series[0.0][:, 0]).all()


def test_behind_a_phase_plate_nothing_is_given_back_at_low_frequency() -> None:
    def change(shift: float) -> float:
        settings = nuisances(phase_shift_degree=shift, defocus_angstrom=20000.0, signal_per_noise=4.0)
        none, all_of_it = (
            reconstruct_types(
                ball(), *_again(replace(settings, low_frequency_restoration=share, slow_withheld=0.0)), ("denoised",)
            )["denoised"]
            for share in (0.0, 1.0)
        )
        return float(np.abs(all_of_it - none).max() / np.ptp(none))

    assert change(0.0) > 0.2
    assert change(90.0 - np.degrees(np.arcsin(0.1))) < 0.02


def test_tilt_series_is_symmetric_in_steps_and_damped_at_high_tilt() -> None:
    series = draw_tilt_series(
        nuisances(tilt_range_degree=45.0, tilt_step_degree=3.0, phase_flipped=True), VOXEL, np.random.default_rng(1)
    )
    np.testing.assert_allclose(np.degrees(series.angle_radian), np.arange(-45, 46, 3), atol=1e-9)
    low, high = np.abs(series.transfer[15]).sum(), np.abs(series.transfer[0]).sum()
    assert high < 0.8 * low
    assert series.noise[15] == 1.0
    assert series.noise[0] < 1.0


def test_dropped_images_are_missing_but_never_the_untilted_one() -> None:
    series = draw_tilt_series(nuisances(dropped_tilts=1.0), VOXEL, np.random.default_rng(1))
    np.testing.assert_array_equal(series.angle_radian, [0.0])


def test_phase_flipping_leaves_no_negative_transfer_but_beside_the_zeros() -> None:
    settings = {"defocus_angstrom": 45000.0}
    flipped, plain = (
        draw_tilt_series(nuisances(**settings, phase_flipped=flip), VOXEL, np.random.default_rng(2)).transfer[:, :500]
        for flip in (True, False)
    )
    assert plain.min() < -0.2
    assert flipped.min() > -0.15
    np.testing.assert_allclose(np.abs(flipped), np.abs(plain), atol=1e-6)


def test_nothing_is_recorded_outside_the_tilt_range() -> None:
    density = np.random.default_rng(3).random(SHAPE, dtype=np.float32)
    recording = record(density, plain_series(np.arange(-45, 46, 3.0)), nuisances(), np.random.default_rng(0))
    angle, radius = angle_of_spectrum(recording.signal, SHAPE[2])
    # a plane is as wide as a voxel of the spectrum, which widens the range near the origin
    outside = radius * np.sin(np.radians(angle - 45).clip(0)) * recording.depth > 1
    assert outside.mean() > 0.3
    assert np.abs(recording.signal[np.broadcast_to(outside[:, None], recording.signal.shape)]).max() == 0
    inside = (angle < 44) & (radius > 0.02) & (radius < 0.08)
    assert (np.abs(recording.signal[np.broadcast_to(inside[:, None], recording.signal.shape)]) > 0).mean() > 0.9


def test_untilted_image_is_the_projection_of_the_density() -> None:
    density = ball()
    recording = record(density, unweighted_series(), nuisances(signal_per_noise=0.3), np.random.default_rng(0))
    image = np.fft.irfft2(recording.signal[0], s=SHAPE[1:]) / weight_of_all(recording.depth)
    projection = np.fft.rfft2(density.sum(axis=0)) * between_pixels()
    np.testing.assert_allclose(image, -np.fft.irfft2(projection, s=SHAPE[1:]), atol=1e-4)
    assert not recording.signal[1:].any()


def test_exact_ramp_gives_the_density_back_when_all_tilts_are_there() -> None:
    shape = (48, 48, 48)
    density = ball(shape)
    series = plain_series(np.arange(-89.5, 90, 1.0))
    signal = record(density, series, nuisances(signal_per_noise=0.3), np.random.default_rng(0)).signal
    depth = len(signal)
    volume = -np.fft.irfftn(signal, s=(depth, 48, 48), axes=(0, 1, 2))[:48]
    inside = density > 0.1
    assert np.corrcoef(volume[inside], density[inside])[0, 1] > 0.97
    assert volume[inside].sum() / density[inside].sum() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("limit", "frequency", "weight"), [(0.1, 1e-3, 1e-3), (0.1, 10.0, 0.0995), (1e3, 0.4, 0.4)])
def test_ramp_rises_with_the_frequency_and_levels_off_at_its_limit(
    limit: float, frequency: float, weight: float
) -> None:
    assert ramp(frequency, limit) == pytest.approx(weight, rel=1e-3)


def test_noise_across_the_tilt_axis_follows_the_ramp() -> None:
    def noise(limit: float) -> np.ndarray:
        series = plain_series(np.arange(-45, 46, 3.0), ramp_limit_per_voxel=limit)
        return np.abs(record(ball(), series, nuisances(), np.random.default_rng(0)).noise)

    levelled, exact = noise(0.05), noise(100.0)
    angle, radius = angle_of_spectrum(exact, SHAPE[2])
    planes = (angle < 44) & (radius > 0.1)
    expected = 1 - np.exp(-0.05 / np.maximum(radius, 1e-9))
    share = (levelled / np.maximum(exact, 1e-9)).mean(axis=1)
    np.testing.assert_allclose(share[planes], expected[planes], rtol=1e-3)


@pytest.mark.parametrize(
    ("frequency", "cutoff", "share"),
    [
        (0.0, 0.35, 1.0),
        (0.25, 0.35, 8 / np.pi**2),
        (-0.25, 0.35, 8 / np.pi**2),
        (0.5, 0.5, 4 / np.pi**2),
        (0.5, 0.4, 4 / np.pi**2 * np.exp(-2)),
    ],
)
def test_across_the_tilt_axis_high_frequencies_are_lost(frequency: float, cutoff: float, share: float) -> None:
    assert kept_across(frequency, cutoff) == pytest.approx(share)


def test_noise_is_lost_across_the_tilt_axis_and_not_along_it() -> None:
    def noise(cutoff: float) -> np.ndarray:
        series = unweighted_series(across_cutoff_per_voxel=cutoff)
        return np.abs(
            record(ball(), series, nuisances(fixed_pattern=0.0, streaks=0.0), np.random.default_rng(0)).noise[0]
        )

    whole, cut = noise(100.0), noise(0.2)
    across = np.arange(SHAPE[2] // 2 + 1) / SHAPE[2]
    expected = np.exp(-0.5 * ((across - 0.2).clip(0) / ACROSS_FALLOFF) ** 2)
    np.testing.assert_allclose(cut / whole, np.broadcast_to(expected, whole.shape), rtol=1e-3)
    along = np.abs(np.fft.fftfreq(SHAPE[1]))[:, None]
    slow, fast = whole[(along < 0.25) & (across < 0.1)], whole[(along > 0.35) & (across < 0.1)]
    assert np.mean(fast**2) == pytest.approx(np.mean(slow**2), rel=0.4)


@pytest.mark.parametrize("width", [72, 71])
def test_noise_is_as_strong_where_the_spectrum_mirrors_itself(width: int) -> None:
    density = np.zeros((*SHAPE[:2], width), dtype=np.float32)
    rng = np.random.default_rng(3)
    planes = []
    for _ in range(40):  # of one untilted image under a level ramp, whose noise is white along y but for interpolation
        recording = record(density, unweighted_series(), nuisances(fixed_pattern=0.0, streaks=0.0), rng)
        volume = scipy.fft.irfftn(recording.noise, s=(recording.depth, SHAPE[1], width))
        planes.append(np.abs(np.fft.rfftn(volume)[0]) ** 2)
    across = np.arange(width // 2 + 1) / width
    power = np.mean(planes, axis=(0, 1)) / np.sinc(across) ** 4
    np.testing.assert_allclose(power / power[1:-1].mean(), 1.0, atol=0.15)  # half of it would be .5; spread is .03


def test_streaks_are_extra_noise_that_is_slow_along_the_tilt_axis() -> None:
    def noise(streaks: float) -> np.ndarray:
        settings = nuisances(fixed_pattern=0.0, streaks=streaks)
        return np.abs(record(ball(), unweighted_series(), settings, np.random.default_rng(0)).noise[0])

    along, across = np.abs(np.fft.fftfreq(SHAPE[1]))[:, None], np.arange(SHAPE[2] // 2 + 1) / SHAPE[2]
    expected = 1 + 0.8 * np.exp(-0.5 * (along / STREAK_FREQUENCY_ALONG) ** 2) * np.exp(
        -0.5 * (across / STREAK_FREQUENCY_ACROSS) ** 2
    )
    np.testing.assert_allclose(noise(0.8), expected * noise(0.0), rtol=1e-4)


def test_shifted_images_shift_the_recorded_density() -> None:
    shift = np.tile([3.0, -2.0], (1, 1))
    density = ball()
    recording = record(
        density,
        unweighted_series(shift_voxels=shift),
        nuisances(signal_per_noise=0.3),
        np.random.default_rng(0),
    )
    image = -np.fft.irfft2(recording.signal[0], s=SHAPE[1:])
    assert np.unravel_index(image.argmax(), image.shape) == (SHAPE[1] // 2 + 3, SHAPE[2] // 2 - 2)


def test_transfer_acts_on_the_frequency_within_each_image() -> None:
    density = ball()
    transfer = np.linspace(0, RADIAL_MAXIMUM, RADIAL_SAMPLES, dtype=np.float32)[None]
    series = unweighted_series(transfer=transfer)
    signal = record(density, series, nuisances(signal_per_noise=0.3), np.random.default_rng(0)).signal
    signal = signal[0] / weight_of_all(len(signal))
    whole = padded_spectrum(density)[0]
    frequency = np.hypot(np.fft.fftfreq(SHAPE[1])[:, None], np.arange(SHAPE[2] // 2 + 1)[None] / SHAPE[2])
    np.testing.assert_allclose(signal, -whole * frequency * between_pixels(), atol=1e-3)


def test_particles_are_dark_in_every_reconstruction_and_all_have_the_shape_of_the_density() -> None:
    density = ball(radius=6.0)
    settings = nuisances(signal_per_noise=30.0, defocus_angstrom=25000.0, phase_flipped=True)
    rng = np.random.default_rng(4)
    series = draw_tilt_series(settings, VOXEL, rng)
    volumes = reconstruct_types(density, series, settings, rng, TOMOGRAM_TYPES)
    assert tuple(volumes) == TOMOGRAM_TYPES
    inside = density > 0.6
    for volume in volumes.values():
        assert volume.shape == SHAPE
        assert volume.dtype == np.float32
        assert volume[inside].mean() < volume.mean() - 3 * np.abs(volume[:, :10]).mean()
    np.testing.assert_array_equal(
        volumes["denoised"],
        reconstruct_types(density, *_again(settings), ("denoised",))["denoised"],
    )


def _again(settings: Nuisances) -> tuple[TiltSeries, Nuisances, np.random.Generator]:
    rng = np.random.default_rng(4)
    return draw_tilt_series(settings, VOXEL, rng), settings, rng


def test_withheld_low_frequencies_leave_particles_dark_and_take_their_shadows() -> None:
    density = ball((72, 80, 88), radius=6.0)
    settings = nuisances(
        low_frequency_restoration=0.8,
        signal_per_noise=6.0,
        fixed_pattern=0.0,
        streaks=0.0,
        defocus_angstrom=3e4,
        amplitude_contrast=0.07,
        ramp_limit_per_voxel=0.3,
    )
    given, kept = (
        reconstruct_types(density, *_again(replace(settings, slow_withheld=withheld)), TOMOGRAM_TYPES)
        for withheld in (0.0, 1.0)
    )
    inside, shadow = (slice(34, 39), slice(38, 43), slice(42, 47)), (slice(54, 59), slice(36, 45), slice(40, 49))
    assert given["denoised"][inside].mean() < -3
    assert kept["denoised"][inside].mean() == pytest.approx(given["denoised"][inside].mean(), rel=0.02)
    assert given["denoised"][shadow].mean() < -0.4
    assert abs(kept["denoised"][shadow].mean()) < 0.3 * abs(given["denoised"][shadow].mean())
    for name in set(TOMOGRAM_TYPES) - {"denoised"}:
        np.testing.assert_array_equal(given[name], kept[name])


def test_wedge_of_each_reconstruction_is_as_empty_as_it_should_be() -> None:
    settings = nuisances(leakage=0.1, wedge_filled=0.8, tilt_range_degree=45.0, alignment_error_angstrom=0.0)
    rng = np.random.default_rng(5)
    density = rng.random((64, 64, 80), dtype=np.float32) - 0.5
    series = draw_tilt_series(settings, VOXEL, rng)
    volumes = reconstruct_types(density, series, settings, rng, TOMOGRAM_TYPES)
    share = {}
    for name, volume in volumes.items():
        window = np.hanning(64)[:, None, None] * np.hanning(80)
        power = (np.abs(np.fft.rfftn(volume * window)) ** 2).mean(axis=1)[:, None]
        angle, radius = angle_of_spectrum(power, 80)
        band = (radius > 0.1) & (radius < 0.25)
        share[name] = power[:, 0][band & (angle > 60)].mean() / power[:, 0][band & (angle < 35)].mean()
    assert share["wbp"] < 1e-3
    assert share["ctfdeconvolved"] < 1e-3
    assert 1e-3 < share["denoised"] < 0.1
    assert share["isonetcorrected"] > share["denoised"]


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("band", [(0.1, 0.15), (0.35, 0.42)], ids=["before the first zero", "after it"])
def test_what_fills_the_wedge_is_dark_where_there_is_protein(flipped: bool, band: tuple[float, float]) -> None:
    settings = nuisances(
        wedge_filled=0.8,
        phase_flipped=flipped,
        defocus_angstrom=5e4,
        signal_per_noise=1e4,
        cutoff_per_voxel=0.5,
        alignment_error_angstrom=0.0,
        across_cutoff_per_voxel=0.45,
    )
    density = np.zeros((64, 64, 80), dtype=np.float32)
    density[16:48, 16:48, 16:64] = np.random.default_rng(6).random((32, 32, 48), dtype=np.float32) - 0.5
    volume = reconstruct_types(density, *_again(settings), ("isonetcorrected",))["isonetcorrected"]
    found, true = np.fft.rfftn(volume), np.fft.rfftn(density)
    kz, ky, kx = np.fft.fftfreq(64)[:, None, None], np.fft.fftfreq(64)[:, None], np.arange(41) / 80
    radius, angle = np.sqrt(kz**2 + ky**2 + kx**2), np.degrees(np.arctan2(np.abs(kz), kx)) + 0 * ky
    within = (radius > band[0]) & (radius < band[1])
    for part in (within & (angle > 58), within & (angle < 38)):
        shared = (found[part] * true[part].conj()).real.sum()
        assert shared < -0.5 * np.linalg.norm(found[part]) * np.linalg.norm(true[part])


def test_raw_reconstruction_is_noisier_than_the_denoised_one() -> None:
    settings = nuisances(raw_noise=3.0, signal_per_noise=0.0)
    volumes = reconstruct_types(np.zeros(SHAPE, np.float32), *_again(settings), ("wbp", "denoised"))
    assert volumes["wbp"].std() > 3 * volumes["denoised"].std()


def test_deconvolution_is_the_wiener_filter_of_its_source() -> None:
    frequency = np.linspace(0.001, 0.05, 40)
    gain = deconvolution(frequency, 30000.0, 0.1, flipped=False)
    ctf = contrast_transfer(frequency, 30000.0, 0.1)
    ratio = 1000 * np.exp(-100 * frequency) * (1 - np.exp(-0.5 * (frequency * 2000) ** 2))
    np.testing.assert_allclose(gain, (ctf / (ctf**2 + 1 / ratio)) / np.abs(ctf / (ctf**2 + 1 / ratio)).max())
    assert (deconvolution(frequency, 30000.0, 0.1, flipped=True) >= 0).all()
    shifted = contrast_transfer(frequency, 30000.0, 0.1, 70.0)
    expected = shifted / (shifted**2 + 1 / ratio)
    np.testing.assert_allclose(
        deconvolution(frequency, 30000.0, 0.1, 70.0, flipped=False), expected / np.abs(expected).max()
    )


@pytest.mark.parametrize("types", [(), ("denoised", "denoised"), ("raw",)])
def test_unknown_or_repeated_types_are_refused(types: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="expected one or more of the tomogram types denoised"):
        reconstruct_types(np.zeros(SHAPE, np.float32), *_again(nuisances()), types)


def test_compression_bends_bright_and_dark_amplitudes_only() -> None:
    volume = np.random.default_rng(7).normal(size=SHAPE).astype(np.float32)
    volume[0, 0, :4] = [10.0, -10.0, 1.0, -2.0]
    spread = background_spread(volume)
    before = volume.copy()
    compress(volume, bright_loss=0.0, bright_suppression=0.75, dark_exponent=0.5)
    bright, dark = denoise.BRIGHT_SPREADS * spread, denoise.DARK_SPREADS * spread
    assert volume[0, 0, 0] == pytest.approx(bright + 0.25 * (10 - bright), rel=1e-5)
    assert volume[0, 0, 1] == pytest.approx(-dark * (10 / dark) ** 0.5, rel=1e-5)
    kept = (before <= bright) & (before >= -dark)
    np.testing.assert_array_equal(volume[kept], before[kept])


def test_bright_amplitudes_lose_their_share_and_noise_becomes_skewed() -> None:
    volume = np.random.default_rng(7).normal(size=SHAPE).astype(np.float32)
    before = volume.copy()
    compress(volume, bright_loss=0.2, bright_suppression=0.0, dark_exponent=1.0)
    np.testing.assert_allclose(volume, np.where(before > 0, 0.8 * before, before), rtol=1e-5)
    upper, lower = np.quantile(volume, 0.84), -np.quantile(volume, 0.16)
    assert upper / lower == pytest.approx(0.8, rel=0.03)


def test_border_fades_at_one_edge_in_y_only() -> None:
    volume = np.ones((4, 200, 90), dtype=np.float32)
    fade_border(volume, np.random.default_rng(0))
    assert volume.min() >= 0.1
    np.testing.assert_allclose(volume[:, 60:140], 1.0, atol=1e-3)
    assert min(volume[0, 0].mean(), volume[0, -1].mean()) < 0.95


@pytest.mark.parametrize("tomogram_type", DENOISED_TYPES)
def test_a_finished_volume_does_not_depend_on_the_level_it_came_with(tomogram_type: str) -> None:
    settings = nuisances(background_loss=0.5, bright_loss=0.2, bright_suppression=0.8, dark_exponent=0.6)
    volume = np.random.default_rng(8).normal(size=SHAPE).astype(np.float32)
    volume[10:14, 20:26, 30:36] -= 9
    plain, raised = (
        finish(volume + level, settings, np.random.default_rng(0), tomogram_type=tomogram_type)
        for level in (np.float32(0.0), np.float32(0.5))
    )
    np.testing.assert_allclose(raised, plain, atol=1e-5 * background_spread(plain))


@pytest.mark.parametrize("tomogram_type", TOMOGRAM_TYPES)
def test_finished_volume_has_mean_zero_and_the_spread_asked_for(tomogram_type: str) -> None:
    volume = (np.random.default_rng(8).normal(size=SHAPE) + 0.3).astype(np.float32)
    settings = nuisances(background_spread=4.3e-6)
    finished = finish(volume, settings, np.random.default_rng(0), tomogram_type=tomogram_type)
    assert abs(finished.mean(dtype=np.float64)) < 1e-11
    assert background_spread(finished) == pytest.approx(4.3e-6, rel=1e-4)
