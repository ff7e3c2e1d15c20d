"""Borders of one value: which are told from grey values, and that they leave no trace in what is picked from."""

import itertools
import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from kaggle_cryoet.picking.adapt import AdaptSettings, adapt
from kaggle_cryoet.picking.equalise import equalise, radial_amplitude
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.padding import fill_padding, padded_voxels, padding_values
from kaggle_cryoet.tomogram import Tomogram

SHAPE = (40, 60, 70)


def filled_padding(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = padded_voxels(volume)
    return volume if padded is None else fill_padding(volume, padded, "TS_1")


def grey(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Noise of spread 1 about 100."""
    return np.random.default_rng(seed).normal(100, 1, shape).astype(np.float32)


def turned(volume: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """What turning a volume about z by 20 degrees leaves: a value in the corners."""
    y, x = np.indices(volume.shape[1:]) - (np.array(volume.shape[1:])[:, None, None] - 1) / 2
    cosine, sine = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    outside = (np.abs(cosine * y + sine * x) > 30) | (np.abs(cosine * x - sine * y) > 35)
    return np.where(outside, np.float32(value), volume)


@pytest.mark.parametrize("value", [0.0, 100.54321, -3.5])
@pytest.mark.parametrize("rim", [((0, 0), (4, 4), (4, 4)), ((0, 0), (30, 30), (0, 0)), ((6, 0), (0, 0), (0, 0))])
def test_a_rim_is_filled_with_noise_like_what_is_inside(
    value: float, rim: tuple[tuple[int, int], ...], caplog: pytest.LogCaptureFixture
) -> None:
    inside = grey()
    padded = np.pad(inside, rim, constant_values=value)
    before = padded.copy()
    filled = filled_padding(padded)
    where = tuple(slice(first, first + edge) for (first, _), edge in zip(rim, SHAPE, strict=True))
    np.testing.assert_array_equal(filled[where], inside)
    mask = np.ones(filled.shape, dtype=bool)
    mask[where] = False
    assert np.median(filled[mask]) == pytest.approx(np.median(inside), abs=0.1)
    assert filled[mask].std() == pytest.approx(inside.std(), rel=0.1)
    np.testing.assert_array_equal(padded, before)
    share = round(100 * mask.mean())
    assert f"TS_1: {share} % of its voxels, about its border, are {value:.6g}; taken for padding" in caplog.text


def test_corners_and_borders_of_two_values_are_padding() -> None:
    volume = np.pad(turned(grey(), 0.0), ((5, 5), (0, 0), (0, 0)), constant_values=99.0)
    assert padding_values(volume) == [0.0, 99.0]
    assert filled_padding(volume).min() > 90


def test_voxels_inside_that_have_the_value_of_the_border_stay() -> None:
    inside = np.round(5 * grey())  # a twelfth of it is 500
    border = np.pad(inside, 6, constant_values=505.0)
    found = filled_padding(border)
    assert padding_values(border) == [505.0]
    deep = np.s_[3:-3, 3:-3, 3:-3]
    np.testing.assert_array_equal(found[6:-6, 6:-6, 6:-6][deep], inside[deep])
    assert np.count_nonzero(inside == 505.0) > 1000


@pytest.mark.parametrize(
    "volume",
    [
        grey(),
        np.round(grey()),  # a few grey values, each of which is common
        np.clip(grey(), 99, 101),  # windowed
        np.where(grey(1) > 100.5, np.float32(100), grey()),  # one value everywhere
        grey(shape=(1, 60, 70)),
        grey(shape=(2, 2, 2)),
    ],
    ids=["noise", "few values", "windowed", "one common value", "one section", "tiny"],
)
def test_what_the_middle_holds_as_well_is_no_padding(
    volume: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    assert filled_padding(volume) is volume
    assert not caplog.records


def smoothed() -> NDArray[np.float32]:
    """Noise that falls with the frequency."""
    shape = (40, 120, 130)
    frequency = np.sqrt(
        sum(
            np.fft.fftfreq(edge).reshape(np.eye(3, dtype=int)[axis] * (edge - 1) + 1) ** 2
            for axis, edge in enumerate(shape)
        )
    )
    smooth = np.fft.ifftn(np.fft.fftn(grey(shape=shape) - 100) * np.exp(-20 * frequency**2)).real
    return np.asarray(100 + smooth / smooth.std(), dtype=np.float32)


def test_padding_changes_neither_scale_nor_spectrum_of_what_is_inside(caplog: pytest.LogCaptureFixture) -> None:
    inside = smoothed()
    rim = np.s_[:, 30:-30, 30:-30]
    padded = np.pad(inside, ((0, 0), (30, 30), (30, 30)))
    with caplog.at_level(logging.ERROR):
        found = adapt(Tomogram(data=padded, voxel_angstrom=10.0, name="TS_1"))
    scaled, expected = normalise(found.data), normalise(inside)
    np.testing.assert_allclose(scaled[rim], expected, atol=0.2)
    found_amplitude, amplitude = radial_amplitude(scaled), radial_amplitude(expected)
    np.testing.assert_allclose(found_amplitude[2:20], amplitude[2:20], rtol=0.1)  # beyond, the border's edge shows
    goal = radial_amplitude(expected).tolist()
    difference = equalise(scaled, goal)[rim] - equalise(expected, goal)
    assert difference.std() < 0.15


def test_hot_voxels_do_not_ring_where_voxels_are_resampled() -> None:
    smooth = smoothed()
    hot = smooth.copy()
    hot[10, ::20, ::20] = 1e6
    dark = AdaptSettings(tone="dark")
    expected, found = (adapt(Tomogram(data=data, voxel_angstrom=20.0, name=""), dark).data for data in (smooth, hot))
    away = np.ones(found.shape, dtype=bool)
    for z, y, x in itertools.product((20,), range(0, 240, 40), range(0, 260, 40)):
        away[z - 8 : z + 9, max(y - 8, 0) : y + 9, max(x - 8, 0) : x + 9] = False
    assert expected.std() > 0.5
    assert np.abs(found - expected)[away].max() < 1


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_border_that_reaches_beyond_the_middle_is_padding_all_the_same(share: float) -> None:
    inside = grey()
    padded = np.pad(inside, ((0, 0), (round(SHAPE[1] * share / (1 - share)), 0), (0, 0)))
    assert padding_values(padded) == [0.0]
    filled = filled_padding(padded)
    np.testing.assert_array_equal(filled[:, -SHAPE[1] :], inside)
    assert filled.min() > 90


def test_corners_that_fill_some_of_a_face_are_padding_and_what_the_middle_has_half_as_much_of_is_not() -> None:
    volume = grey(shape=(40, 120, 130))
    y, x = np.indices((120, 130))
    volume[:, 3 * y + x < 36] = 0  # a tenth of one face, three tenths of another
    assert padding_values(volume) == [0.0]
    common = grey(shape=(40, 120, 130))
    common[np.random.default_rng(1).random(common.shape) < 0.05] = 101
    common[[0, -1]] = np.where(np.random.default_rng(2).random((2, 120, 130)) < 0.1, np.float32(101), common[[0, -1]])
    assert padding_values(common) == []


@pytest.mark.parametrize("edge", [40, 100, 320, 630])
@pytest.mark.parametrize("most", [2.3, 2.6])
def test_a_slice_in_8_bits_has_no_padding(edge: int, most: float) -> None:
    for seed in range(5):
        spreads = np.clip(noise_of_slice(seed, edge), -most, most)
        levels = np.round(255 * (spreads + most) / (2 * most)).astype(np.float32)
        assert filled_padding(levels) is levels


def noise_of_slice(seed: int, edge: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(1, edge, edge))


def test_an_image_with_a_border_has_padding() -> None:
    image = np.pad(grey(shape=(1, 200, 220)), ((0, 0), (20, 0), (0, 0)))
    assert padding_values(image) == [0.0]


def test_hot_voxels_leave_no_trace_in_the_noise_in_a_border() -> None:
    inside = grey()
    inside[20, ::10, ::10] = 1e6
    filled = filled_padding(np.pad(inside, ((0, 0), (15, 15), (0, 0))))
    noise = filled[:, :15] - 100
    assert noise.std() == pytest.approx(1.0, rel=0.2)
    assert abs(np.corrcoef(noise[..., :-10].ravel(), noise[..., 10:].ravel())[0, 1]) < 0.2  # no comb as of theirs
