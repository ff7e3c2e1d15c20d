"""Grey values that drift across a tomogram."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.picking.adapt import adapt
from kaggle_cryoet.picking.drift import without_drift
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.tomogram import Tomogram

SHAPE = (61, 130, 141)  # no multiples of a block


def ramp(shape: tuple[int, int, int], *ends: float) -> NDArray[np.float32]:
    """From -end to end along z, y and x."""
    axes = [np.linspace(-end, end, edge) for end, edge in zip(ends, shape, strict=True)]
    return sum(np.meshgrid(*axes, indexing="ij"), np.zeros(shape)).astype(np.float32)


def noise(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(5, 1, shape).astype(np.float32)


@pytest.mark.parametrize("ends", [(0, 0, 3), (0, 2, 0), (2, 0, 0), (-1, 1, 2)])
def test_ramps_are_taken_away_and_noise_stays(
    ends: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    volume = noise() + ramp(SHAPE, *ends)
    given = volume.copy()
    level = without_drift(volume, 10.0, "TS_1")
    assert np.abs(level - noise()).max() < 0.15  # what noise of variance 1 seems to drift itself, at the corners
    assert (level - noise()).std() < 0.03
    assert level.mean() == pytest.approx(volume.mean(), abs=1e-3)
    np.testing.assert_array_equal(volume, given)
    assert "TS_1: its grey values drift by" in caplog.text


def test_a_ramp_alone_is_taken_away_to_its_ends() -> None:
    volume = ramp(SHAPE, 1, -2, 3)
    assert np.abs(without_drift(volume, 10.0, "TS_1")).max() < 1e-5


def test_bowls_and_slow_waves_are_taken_away() -> None:
    shape = (48, 400, 104)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, edge) for edge in shape], indexing="ij")
    bowl = z * z + x * x + x * y
    level = without_drift((2 * bowl).astype(np.float32), 10.01, "TS_1")
    assert level.std() < 0.05 * (2 * bowl).std()  # but for half a block at the ends, along z an eighth of all
    wave = np.broadcast_to(np.cos(2 * np.pi * np.arange(900) / 600), (20, 100, 900))  # of 6000 Å
    passed = np.exp(-2 * (np.pi * 40 / 600) ** 2)  # by a Gaussian of 400 Å
    level = without_drift(np.float32(3) * wave.astype(np.float32), 10.0, "TS_1")
    middle = slice(250, 650)
    np.testing.assert_allclose(level.std() / 3 / wave.std(), 1 - passed, atol=0.05)
    assert np.abs(level[..., middle]).max() < 3 * (1 - passed) + 0.1


def test_particles_stay() -> None:
    """A virus-like particle, the largest there is, loses less than a twentieth of its contrast."""
    shape = (100, 200, 200)
    volume = np.random.default_rng(2).normal(0, 1, shape).astype(np.float32) + ramp(shape, 0, 0, 4)
    squares = sum(np.meshgrid(*[(np.arange(edge) - edge // 2) ** 2 for edge in shape], indexing="ij"))
    inside = squares < 13.5**2
    with_particle = volume - np.float32(3) * inside
    lost = without_drift(volume, 10.0, "TS_1") - without_drift(with_particle, 10.0, "TS_1")
    assert lost[inside].mean() > 0.95 * 3


def test_what_does_not_drift_and_what_is_small_is_left_alone() -> None:
    volume = noise()
    assert without_drift(volume, 10.0, "TS_1") is volume
    weak = volume + ramp(SHAPE, 0, 0, 0.3)
    assert without_drift(weak, 10.0, "TS_1") is weak
    strong = volume + ramp(SHAPE, 0, 0, 3)
    assert without_drift(strong, 7.0, "TS_1") is strong  # 130 voxels of 7 Å are less than 1000 Å
    assert without_drift(strong, 8.0, "TS_1") is not strong
    slice_like, slab = strong[:19], strong[:20]
    assert without_drift(slice_like, 10.0, "TS_1") is slice_like  # what is seen in a slice seems to drift
    assert without_drift(slab, 10.0, "TS_1") is not slab


def test_gold_and_hot_voxels_are_no_drift() -> None:
    volume = noise()
    volume.reshape(-1)[np.random.default_rng(0).integers(0, volume.size, 500)] = 1e6
    volume[20:30, 40:50, 40:50] = -400
    assert without_drift(volume, 10.0, "TS_1") is volume


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3, 128.0, 1e6])
def test_a_constant_is_left_alone(value: float) -> None:
    volume = np.full(SHAPE, value, np.float32)
    assert without_drift(volume, 10.0, "TS_1") is volume


def test_a_short_end_counts_no_more_than_it_holds() -> None:
    volume = noise((65, 130, 141))
    volume[-1] += 6
    assert without_drift(volume, 10.0, "TS_1") is volume


def test_padding_neither_counts_nor_changes() -> None:
    volume = noise() + ramp(SHAPE, 0, 1, 3)
    padded = np.zeros(SHAPE, bool)
    padded[..., :30] = padded[:, -20:] = True
    volume[padded] = -50
    level = without_drift(volume, 10.0, "TS_1", padded)
    assert np.abs((level - noise())[~padded]).std() < 0.05
    inner = (level - noise())[:, :110, 30:].mean(axis=(0, 1))
    assert np.ptp(inner) < 0.1
    np.testing.assert_array_equal(level[padded], -50)
    alone = adapt(Tomogram(data=volume, voxel_angstrom=10.0, name="TS_1")).data
    assert alone[padded].std() == pytest.approx(1, abs=0.1)  # noise like the rest, which drifts no more
    assert np.ptp(alone.mean(axis=(0, 1))) < 0.3


def test_a_drift_is_the_same_in_finer_voxels() -> None:
    coarse = without_drift(ramp((30, 120, 130), 1, 2, 3) ** 3, 10.0, "TS_1")
    fine = without_drift(ramp((60, 240, 260), 1, 2, 3) ** 3, 5.0, "TS_1")
    np.testing.assert_allclose(fine.std(), coarse.std(), rtol=0.05)


def test_a_tomogram_that_drifts_is_adapted_to_what_it_would_be_without(caplog: pytest.LogCaptureFixture) -> None:
    tomogram, _, _ = simulate_tomogram("TS_1", seed=(5, 0), shape_zyx=(64, 128, 128))
    spread = np.subtract(*np.quantile(tomogram.data, [0.84, 0.16])) / 2
    drifting = tomogram.data + np.float32(spread) * ramp((64, 128, 128), 1, 0, 4)
    for sign in (1, -1):  # bright particles are known by the skew, which a drift hides
        made = adapt(Tomogram(data=sign * drifting, voxel_angstrom=CZII_VOXEL_ANGSTROM, name="TS_1")).data
        difference = made - adapt(tomogram).data
        assert difference.std() < 0.25 * spread
    assert "seem to be bright" in caplog.text
