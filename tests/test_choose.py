"""Which candidates become picks: those above thresholds, or those that are expected to score best."""

import itertools

import numpy as np
import pytest

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.choose import above, best_expected, expected_counts, expected_score
from kaggle_cryoet.picks import Picks


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


def test_what_is_above_a_threshold_is_picked_by_type() -> None:
    found = candidates([0, 3, 3, 5], [0.6, 0.6, 0.9, 0.2])
    assert above(found, (0.5, 0, 0, 0.7, 0, 0.2)).score.tolist() == [0.6, 0.9]


def expectation(probability: list[float], chosen: tuple[int, ...], number: float) -> float:
    """Expected F-beta of some of the candidates of one type, written out."""
    hits = sum(probability[i] for i in chosen)
    particles = max(sum(probability), number)
    precision, recall = hits / len(chosen), hits / particles
    return 17 * precision * recall / (16 * precision + recall)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_set_of_candidates_is_expected_to_score_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random(9) ** rng.uniform(0.5, 6)
    number = float(rng.uniform(0.6, 6))
    expected = np.full(len(PARTICLES), number)
    found = best_expected(candidates([2] * 9, probability.tolist()), probability, expected)
    picked = tuple(np.flatnonzero(np.isin(probability, found.score)).tolist())
    every = [chosen for size in range(1, 10) for chosen in itertools.combinations(range(9), size)]
    best = max(every, key=lambda chosen: expectation(probability.tolist(), chosen, number))
    assert picked == best


def test_the_expected_score_is_that_of_the_best_sets_weighted_as_the_competition_does() -> None:
    probability = {0: [0.9, 0.2], 1: [0.5], 2: [0.3, 0.6, 0.1], 4: [0.0]}  # nothing of two types
    label = [kind for kind, values in probability.items() for _ in values]
    flat = np.array([value for values in probability.values() for value in values])
    best = dict.fromkeys(range(6), 0.0)
    for kind in (0, 1, 2):
        every = (c for size in (1, 2, 3) for c in itertools.combinations(range(len(probability[kind])), size))
        best[kind] = max(expectation(probability[kind], chosen, 1.5) for chosen in every)
    weights = [particle.weight for particle in PARTICLES]
    expected = sum(weight * best[kind] for kind, weight in enumerate(weights)) / sum(weights)
    found = expected_score(candidates(label, flat.tolist()), flat, np.full(6, 1.5))
    assert found == pytest.approx(expected)
    assert 0 < found < 1


def test_of_sure_and_hopeless_candidates_the_sure_ones_are_picked_in_their_order() -> None:
    probability = np.array([0.01, 0.99, 0.005, 0.98, 0.99])
    found = best_expected(candidates([3, 3, 3, 0, 3], probability.tolist()), probability, np.zeros(6))
    assert found.score.tolist() == [0.99, 0.98, 0.99]


def test_where_little_is_likely_less_likely_candidates_are_picked() -> None:
    doubtful = [0.05] * 10
    clear = np.array([0.99] * 10 + doubtful)
    dim = np.array([0.3] * 10 + doubtful)
    expected = np.full(6, 2.0)
    assert len(best_expected(candidates([4] * 20, clear.tolist()), clear, expected)) == 10
    assert len(best_expected(candidates([4] * 20, dim.tolist()), dim, expected)) == 20
    expected[4] = 40.0  # so that most are missed whatever is picked
    assert len(best_expected(candidates([4] * 20, clear.tolist()), clear, expected)) == 20


@pytest.mark.parametrize("junk", [300, 3000, 30_000])
def test_many_unlikely_candidates_do_not_drown_a_few_sure_ones(junk: int) -> None:
    probability = np.concatenate([np.full(40, 0.98), np.random.default_rng(3).uniform(0.01, 0.1, junk)])
    found = best_expected(candidates([0] * len(probability), probability.tolist()), probability, np.full(6, 20.0))
    assert (found.score == 0.98).sum() == 40
    assert len(found) <= 17 * 40


def test_what_cannot_be_is_not_picked() -> None:
    assert len(best_expected(candidates([1, 2], [0.3, 0.4]), np.zeros(2), np.full(6, 5.0))) == 0


def test_no_candidates_are_no_picks() -> None:
    assert len(best_expected(candidates([], []), np.empty(0), np.ones(len(PARTICLES)))) == 0
