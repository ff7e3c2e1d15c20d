"""Tomograms of any origin: which side particles are on, and voxels of another size."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.picking.adapt import SAME_SCALE, AdaptSettings, adapt, resample, tone_of
from kaggle_cryoet.picking.padding import fill_padding, padded_voxels
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.tomogram import Tomogram

CENTRES_ANGSTROM = np.array([[150.0, 200.0, 260.0], [40.0, 380.0, 90.0], [310.0, 60.0, 420.0]])
SIGMA_ANGSTROM = 30.0
EDGES_ANGSTROM = (400.0, 500.0, 620.0)


def blobs(voxel_angstrom: float, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Dark Gaussians at the same places in Å, whatever the voxel; one reaches over an edge; no two voxels are equal."""
    shape = shape or tuple(int(edge / voxel_angstrom) + 1 for edge in EDGES_ANGSTROM)
    grid = np.stack(np.meshgrid(*[np.arange(edge) * voxel_angstrom for edge in shape], indexing="ij"), axis=-1)
    squares = ((grid[..., None, :] - CENTRES_ANGSTROM) ** 2).sum(-1)
    return -(np.exp(-squares / (2 * SIGMA_ANGSTROM**2)).sum(-1) + 1e-9 * grid @ [1, 3, 7]).astype(np.float32)


def tomogram(data: NDArray[np.float32], voxel_angstrom: float = CZII_VOXEL_ANGSTROM) -> Tomogram:
    return Tomogram(data=data, voxel_angstrom=voxel_angstrom, name="TS_1")


@pytest.mark.parametrize("voxel_angstrom", [4.3, 7.84, 9.5, 13.48, 17.0])
def test_what_is_resampled_is_what_would_have_been_sampled(voxel_angstrom: float) -> None:
    made = adapt(tomogram(blobs(voxel_angstrom), voxel_angstrom))
    assert made.voxel_angstrom == CZII_VOXEL_ANGSTROM
    last = [(int(edge / voxel_angstrom) * voxel_angstrom) // CZII_VOXEL_ANGSTROM for edge in EDGES_ANGSTROM]
    assert list(made.data.shape) == [1 + edge for edge in last]  # no voxel beyond the last one there was
    found = resample(blobs(voxel_angstrom), voxel_angstrom / CZII_VOXEL_ANGSTROM)
    np.testing.assert_allclose(found, blobs(CZII_VOXEL_ANGSTROM, made.data.shape), atol=0.03)
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(found[inner], blobs(CZII_VOXEL_ANGSTROM, made.data.shape)[inner], atol=0.01)


def test_what_is_adapted_is_resampled() -> None:
    volume = np.random.default_rng(1).normal(size=(30, 37, 41)).astype(np.float32)
    made = adapt(tomogram(volume, 13.0), AdaptSettings(tone="dark"))
    np.testing.assert_array_equal(made.data, resample(volume, 13.0 / CZII_VOXEL_ANGSTROM))


def test_resampling_in_parts_is_resampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).normal(size=(30, 37, 41)).astype(np.float32)
    at_once = resample(volume, 1.3)
    monkeypatch.setattr("kaggle_cryoet.picking.adapt.BLOCK_VOXELS", 5000)
    np.testing.assert_array_equal(resample(volume, 1.3), at_once)


def test_what_is_out_of_bounds_counts_as_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.random.default_rng(0).normal(size=(30, 37, 41)).astype(np.float32)
    given = volume.copy()
    bounds = (-1.5, 0.7)
    monkeypatch.setattr("kaggle_cryoet.picking.adapt.BLOCK_VOXELS", 5000)
    np.testing.assert_array_equal(resample(volume, 1.3, bounds), resample(volume.clip(*bounds), 1.3))
    np.testing.assert_array_equal(volume, given)


def test_finer_voxels_do_not_alias() -> None:
    """A wave of 12 Å cannot be told in voxels of 10 Å; sampled there without care it would be one of 60 Å."""
    wave = np.cos(2 * np.pi * np.arange(300) * 4.0 / 12.0).astype(np.float32)
    volume = np.broadcast_to(wave, (20, 20, 300)) + np.float32(0)
    assert np.abs(resample(volume, 4.0 / CZII_VOXEL_ANGSTROM)[..., 5:-5]).max() < 0.05


def test_a_slice_stays_one() -> None:
    volume = blobs(13.48)[11:12]
    made = resample(volume, 13.48 / CZII_VOXEL_ANGSTROM)
    assert made.shape == (1, *(int((edge - 1) * 13.48 / CZII_VOXEL_ANGSTROM) + 1 for edge in volume.shape[1:]))


def test_voxels_of_nearly_the_same_size_are_left_alone() -> None:
    given = tomogram(blobs(10.0), CZII_VOXEL_ANGSTROM * (1 + 0.9 * SAME_SCALE))
    assert adapt(given) is given


@pytest.mark.parametrize("voxel_angstrom", [1.0, 250.0])
def test_a_voxel_that_cannot_be_right_is_said_and_taken_for_the_competitions(
    voxel_angstrom: float, caplog: pytest.LogCaptureFixture
) -> None:
    given = tomogram(blobs(10.0), voxel_angstrom)
    made = adapt(given)
    assert made.voxel_angstrom == CZII_VOXEL_ANGSTROM
    np.testing.assert_array_equal(made.data, given.data)
    assert f"TS_1: has voxels of {voxel_angstrom:g} Å, which cannot be right" in caplog.text
    assert not made.voxel_known
    known = adapt(given, AdaptSettings(voxel_angstrom=13.48))
    assert (known.voxel_angstrom, known.data.shape[2]) == (CZII_VOXEL_ANGSTROM, int(62 * 13.48 / 10.012444) + 1)


def test_coarse_voxels_are_said_to_resolve_little(caplog: pytest.LogCaptureFixture) -> None:
    adapt(tomogram(blobs(17.0), 17.0))
    assert "17 Å, which do not resolve small particles; it is resampled to the 10.01 Å" in caplog.text


@pytest.mark.parametrize("tomogram_type", ["denoised", "isonetcorrected", "ctfdeconvolved", "wbp"])
def test_the_tone_of_a_tomogram_is_seen_and_no_dark_one_is_taken_for_bright(tomogram_type: str) -> None:
    told = 0
    for number in range(3):
        data = simulate_tomogram("a", seed=(5, number), shape_zyx=(64, 96, 96), tomogram_type=tomogram_type)[0].data
        assert tone_of(data) in ("dark", None)
        assert tone_of(-data) in ("bright", None)
        told += tone_of(data) == "dark"
    assert told == 3 or tomogram_type in ("wbp", "ctfdeconvolved")  # whose noise may hide it


@pytest.mark.parametrize("sign", [-1, 1])
def test_padding_does_not_decide_the_tone(sign: int) -> None:
    data = sign * simulate_tomogram("a", seed=(5, 0), shape_zyx=(64, 96, 96), tomogram_type="denoised")[0].data
    expected = tone_of(data)
    assert expected == ("dark" if sign == 1 else "bright")
    few_levels = np.round(3 * data / data.std())  # in which whole blocks are alike without any padding
    assert (few_levels[::2, ::2, ::2] == few_levels[1::2, 1::2, 1::2]).mean() > 0.1
    assert tone_of(few_levels) == expected
    for level in (-10.0, 10.0):
        padded = data + np.float32(level * data.std())
        padded[:, :, 90:] = 0
        padded[:5] = 0
        border = padded_voxels(padded)
        assert border is not None
        assert tone_of(fill_padding(padded, border, "a")) == expected


def test_a_tone_that_cannot_be_told_is_said(caplog: pytest.LogCaptureFixture) -> None:
    noise = tomogram(np.random.default_rng(1).normal(size=(30, 40, 50)).astype(np.float32))
    assert adapt(noise) is noise
    assert "they are taken for dark (--particles bright says otherwise)" in caplog.text
    caplog.clear()
    adapt(noise, AdaptSettings(tone="dark"))
    assert caplog.text == ""


def test_bright_particles_are_made_dark_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    dark = blobs(CZII_VOXEL_ANGSTROM)
    np.testing.assert_array_equal(adapt(tomogram(-dark)).data, dark)
    assert "TS_1: its particles seem to be bright" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(adapt(tomogram(dark)).data, dark)
    np.testing.assert_array_equal(adapt(tomogram(-dark), AdaptSettings(tone="dark")).data, -dark)
    np.testing.assert_array_equal(adapt(tomogram(dark), AdaptSettings(tone="bright")).data, -dark)
    assert caplog.text == ""


def test_noise_constants_and_a_few_voxels_have_no_tone(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        for shape in ((1, 1, 1), (2, 3, 3), (1, 40, 30), (9, 10, 11), (40, 50, 60)):
            assert tone_of(rng.normal(size=shape).astype(np.float32)) is None
            assert tone_of(np.zeros(shape, dtype=np.float32)) is None
    assert caplog.text == ""


@pytest.mark.parametrize(("shape", "axis"), [((60, 20, 50), "y"), ((60, 50, 20), "x"), ((24, 20, 50), None)])
def test_a_tomogram_that_is_thin_along_another_axis_is_warned_of(
    shape: tuple[int, int, int], axis: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    adapt(tomogram(np.random.default_rng(0).normal(size=shape).astype(np.float32)))
    assert caplog.text.count("thin along") == (axis is not None)
    assert axis is None or f"60 x {shape[1]} x {shape[2]} voxels, z y x, and is thin along {axis}" in caplog.text


@pytest.mark.parametrize(
    "bad", [{"tone": "grey"}, {"voxel_angstrom": 0.0}, {"voxel_angstrom": float("inf")}, {"voxel_angstrom": 1.5}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        AdaptSettings(**bad)  # type: ignore[arg-type]


def blocks_of_skew(skew: float, shape: tuple[int, int, int] = (64, 96, 96)) -> NDArray[np.float32]:
    """Blocks of 2x2x2 equal voxels, gamma-distributed, of about that skew within what counts."""
    rng = np.random.default_rng(4)
    blocks = rng.gamma(4 / skew**2, size=tuple(edge // 2 for edge in shape)) if skew else rng.normal(size=shape)
    return np.kron(blocks, np.ones((2, 2, 2))).astype(np.float32)


def test_a_tomogram_is_bright_or_dark_from_a_skew_of_a_fifth_on() -> None:
    assert tone_of(blocks_of_skew(0.1)) is None
    assert tone_of(-blocks_of_skew(0.1)) is None
    assert tone_of(blocks_of_skew(0.4)) == "bright"
    assert tone_of(-blocks_of_skew(0.4)) == "dark"


def test_few_blocks_tell_no_tone_by_chance() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(9, 10, 11)).astype(np.float32)
        assert tone_of(noise) is None
