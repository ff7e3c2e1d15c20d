"""A tomogram gets another radial spectrum: by value, against a plain version, and nothing else changes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import SHELLS, SHELLS_PER_FREQUENCY
from kaggle_cryoet.models.unet3d import UNetSettings
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.picking.equalise import MOST_GAIN, equalise, mean_spectrum, radial_amplitude, show
from kaggle_cryoet.picking.normalise import normalise

SHAPE = (40, 54, 62)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def frequency(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Radial frequency of a whole transform, in cycles per voxel."""
    z, y, x = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    radius: NDArray[np.float64] = np.sqrt(z**2 + y**2 + x**2)
    return radius


def blurred(volume: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """A volume whose amplitude falls to exp(-1/2) at a frequency."""
    transform = np.fft.fftn(volume) * np.exp(-0.5 * (frequency(volume.shape) / width) ** 2)
    return normalise(np.fft.ifftn(transform).real.astype(np.float32))


@pytest.mark.parametrize("shape", [SHAPE, (41, 33, 64), (12, 20, 31)])
def test_the_radial_amplitude_is_that_of_the_whole_transform(shape: tuple[int, ...]) -> None:
    volume = noise(1, shape) + 0.7
    power = np.abs(np.fft.fftn(volume)) ** 2 / volume.size
    shell = (frequency(shape) * SHELLS_PER_FREQUENCY).astype(int)
    shell[0, 0, 0] = SHELLS  # the mean does not count
    half = np.s_[:, :, : shape[2] // 2 + 1]
    found = radial_amplitude(volume)
    for number in range(SHELLS):
        inside = power[half][shell[half] == number]
        if len(inside):
            assert found[number] == pytest.approx(np.sqrt(inside.mean()), rel=1e-4)
        else:
            assert np.isnan(found[number])


def test_white_noise_has_amplitude_one_in_every_shell_that_holds_enough() -> None:
    np.testing.assert_allclose(radial_amplitude(noise(2, (64, 64, 64)))[4:50], 1.0, atol=0.1)


def test_what_was_blurred_gets_back_the_spectrum_it_had() -> None:
    sharp = blurred(noise(3), 0.35)
    found = equalise(blurred(sharp, 0.5), mean_spectrum([sharp]), share=1)
    inside = slice(3, 30)  # beyond, more than the largest gain would be needed
    np.testing.assert_allclose(radial_amplitude(found)[inside], radial_amplitude(sharp)[inside], rtol=0.06)
    assert np.corrcoef(found.ravel(), sharp.ravel())[0, 1] > 0.99


def test_half_of_the_way_is_the_geometric_mean_of_both_spectra() -> None:
    volume, goal = blurred(noise(3), 0.3), mean_spectrum([blurred(noise(4), 0.5)])
    ends = [radial_amplitude(equalise(volume, goal, share=share)) for share in (0.0, 1.0)]
    np.testing.assert_allclose(ends[0], radial_amplitude(volume), rtol=1e-4)
    ratio = radial_amplitude(equalise(volume, goal, share=0.5)) / np.sqrt(ends[0] * ends[1])
    inside = slice(3, 30)
    np.testing.assert_allclose(ratio[inside], np.nanmean(ratio[inside]), rtol=0.03)  # but for the spread, which is 1
    assert np.log(ends[0] / ends[1])[inside].std() > 0.15


def test_networks_are_shown_volumes_that_went_seven_tenths_of_the_way() -> None:
    volume, goal = blurred(noise(3), 0.3), mean_spectrum([blurred(noise(4), 0.5)])
    versions = {"whole": equalise(volume, goal, share=1), "shown": show(volume, [goal])[goal]}
    change = {name: np.log(radial_amplitude(v) / radial_amplitude(volume))[3:30] for name, v in versions.items()}
    centred = {name: values - values.mean() for name, values in change.items()}  # the spread is set to 1 in each
    assert centred["whole"].std() > 0.15
    np.testing.assert_allclose(centred["shown"], 0.7 * centred["whole"], atol=0.02)


def test_a_volume_with_that_spectrum_stays_as_it_is() -> None:
    volume = blurred(noise(4), 0.2)
    before = volume.copy()
    np.testing.assert_allclose(equalise(volume, mean_spectrum([volume])), volume, atol=0.02)
    np.testing.assert_array_equal(volume, before)


def test_without_a_spectrum_nothing_is_done() -> None:
    volume = noise(5)
    assert equalise(volume, ()) is volume


def test_an_empty_wedge_stays_empty() -> None:
    transform = np.fft.fftn(noise(6))
    z, _, x = np.meshgrid(*map(np.fft.fftfreq, SHAPE), indexing="ij")
    wedge = np.abs(z) > np.abs(x) + 0.02
    volume = normalise(np.fft.ifftn(np.where(wedge, 0, transform)).real.astype(np.float32))
    found = np.abs(np.fft.fftn(equalise(volume, mean_spectrum([blurred(noise(7), 0.2)]))))
    assert found[wedge].mean() < 0.02 * found[~wedge].mean()


def test_no_frequency_is_changed_by_more_than_the_largest_gain() -> None:
    volume = noise(8)
    spectrum = np.ones(SHELLS)
    spectrum[:20] = 1e6
    ratio = radial_amplitude(equalise(volume, spectrum.tolist(), share=1)) / radial_amplitude(volume)
    assert ratio[5:15].mean() / ratio[30:45].mean() == pytest.approx(MOST_GAIN, rel=0.05)


def test_the_mean_spectrum_is_geometric_and_fills_empty_shells() -> None:
    first, second = noise(9, (12, 20, 31)), noise(10, (12, 20, 31))
    mean = np.array(mean_spectrum([first, second]))
    assert mean.shape == (SHELLS,)
    assert np.isfinite(mean).all()
    expected = np.sqrt(radial_amplitude(first) * radial_amplitude(second))
    known = np.isfinite(expected)
    assert 0 < known.sum() < SHELLS
    np.testing.assert_allclose(mean[known], expected[known], rtol=1e-6)


@pytest.mark.parametrize("wrong", [(1.0,) * (SHELLS - 1), (0.0,) * SHELLS, (float("nan"),) * SHELLS])
@pytest.mark.parametrize("settings", [UNetSettings, YoloSettings])
def test_a_spectrum_of_another_form_is_an_input_error(settings: type, wrong: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="a spectrum has 56 positive amplitudes"):
        settings(spectrum=wrong)


def test_of_a_part_of_the_way_the_largest_gain_is_a_part_as_well() -> None:
    volume = noise(8)
    spectrum = np.ones(SHELLS)
    spectrum[:20] = 1e6
    ratio = radial_amplitude(equalise(volume, spectrum.tolist(), share=0.7)) / radial_amplitude(volume)
    assert ratio[5:15].mean() / ratio[30:45].mean() == pytest.approx(MOST_GAIN**0.7, rel=0.05)
