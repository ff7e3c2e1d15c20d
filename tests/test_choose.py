"""Which candidates become picks: thresholds, near misses, and never more of those than may be expected."""

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.choose import STRICT, ChooseSettings, above, choose, expected_counts, lowered
from kaggle_cryoet.picks import Picks

HALF = (0.5,) * len(PARTICLES)


def candidates(label: list[int], score: list[float]) -> Picks:
    position = np.arange(3.0 * len(label)).reshape(-1, 3)
    return Picks(position_zyx_angstrom=position, label=np.array(label, dtype=np.int64), score=np.array(score))


def test_a_tomogram_of_the_competition_is_expected_to_hold_the_mean_of_seven() -> None:
    expected = expected_counts(CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM)
    np.testing.assert_allclose(expected * 7, [375, 87, 112, 331, 251, 113])


def test_expected_numbers_are_in_proportion_to_the_volume_not_to_its_voxels() -> None:
    whole = expected_counts((184, 630, 630), 10.0)
    np.testing.assert_allclose(expected_counts((92, 315, 315), 20.0), whole)
    np.testing.assert_allclose(expected_counts((92, 630, 630), 10.0), whole / 2)


def test_lowered_thresholds_have_odds_that_are_a_fifth() -> None:
    low = np.array(lowered((0.5, 0.2, 0.9, 0.0, 1.0, 1.3), ChooseSettings(odds_factor=5.0)))
    np.testing.assert_allclose(low, [1 / 6, 1 / 21, 9 / 14, 0.0, 1.0, 1.0])
    odds, before = low[:3] / (1 - low[:3]), np.array([1.0, 0.25, 9.0])
    np.testing.assert_allclose(odds, before / 5)


def test_the_best_near_misses_make_up_the_number_and_no_more() -> None:
    found = candidates([3] * 6, [0.9, 0.3, 0.4, 0.2, 0.1, 0.45])
    expected = np.zeros(len(PARTICLES))
    expected[3] = 1.0
    assert choose(found, HALF, expected, ChooseSettings(odds_factor=5.0, times_expected=3.0)).score.tolist() == [
        0.9,
        0.4,
        0.45,
    ]
    assert choose(found, HALF, expected, ChooseSettings(odds_factor=5.0, times_expected=1.0)).score.tolist() == [0.9]
    everything_near = choose(found, HALF, expected, ChooseSettings(odds_factor=5.0, times_expected=100.0))
    assert everything_near.score.tolist() == [0.9, 0.3, 0.4, 0.2, 0.45]  # 0.1 is below 1 / 6


def test_what_is_above_its_threshold_stays_however_little_is_expected() -> None:
    found = candidates([0, 0, 5], [0.6, 0.7, 0.8])
    assert len(choose(found, HALF, np.zeros(len(PARTICLES)), ChooseSettings())) == 3


def test_strict_is_the_thresholds_alone() -> None:
    rng = np.random.default_rng(2)
    found = candidates(rng.integers(0, 6, 300).tolist(), rng.random(300).tolist())
    thresholds = tuple(rng.random(6))
    kept = choose(found, thresholds, np.full(6, 1000.0), STRICT)
    np.testing.assert_array_equal(kept.position_zyx_angstrom, above(found, thresholds).position_zyx_angstrom)


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_that_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, score = rng.integers(0, 6, 400), rng.random(400)
    thresholds, expected = tuple(rng.uniform(0.2, 0.95, 6)), rng.uniform(0, 30, 6)
    settings = ChooseSettings(odds_factor=float(rng.uniform(1, 20)), times_expected=float(rng.uniform(0, 4)))
    wanted = set()
    for kind in range(6):
        ranked = sorted((i for i in range(400) if label[i] == kind), key=lambda i: -score[i])
        for rank, i in enumerate(ranked):
            odds, limit = score[i] / (1 - score[i]), thresholds[kind] / (1 - thresholds[kind])
            near = odds > limit / settings.odds_factor and rank < round(settings.times_expected * expected[kind])
            if score[i] > thresholds[kind] or near:
                wanted.add(i)
    found = choose(candidates(label.tolist(), score.tolist()), thresholds, expected, settings)
    assert {int(first) // 3 for first in found.position_zyx_angstrom[:, 0]} == wanted


def test_no_candidates_are_no_picks() -> None:
    assert len(choose(candidates([], []), HALF, np.ones(len(PARTICLES)), ChooseSettings())) == 0


@pytest.mark.parametrize("wrong", [{"odds_factor": 0.5}, {"times_expected": -1.0}, {"odds_factor": float("nan")}])
def test_settings_that_make_no_sense_are_an_input_error(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="divided by 1 or more"):
        ChooseSettings(**wrong)
