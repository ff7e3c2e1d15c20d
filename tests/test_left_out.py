"""Each run is picked by what was fitted on the others, and by nothing of its own."""

import numpy as np
import pytest

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.choose import best_expected
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import fit_calibration
from kaggle_cryoet.training.left_out import others_of, picks_by_others


def a_run(seed: int) -> tuple[Picks, Picks]:
    rng = np.random.default_rng(seed)
    score, label = rng.uniform(0.05, 1, 150), rng.integers(0, 6, 150)
    position = np.arange(150)[:, None] * np.array([500.0, 0.0, 0.0])
    hit = rng.random(150) < score**2
    found = Picks(position_zyx_angstrom=position, label=label, score=score)
    return found, Picks(position_zyx_angstrom=position[hit], label=label[hit])


@pytest.fixture(scope="module")
def runs() -> dict[str, tuple[Picks, Picks]]:
    return {name: a_run(seed) for seed, name in enumerate("abc")}


def test_a_run_is_picked_by_the_calibration_of_the_others(runs: dict[str, tuple[Picks, Picks]]) -> None:
    candidates = {name: found for name, (found, _) in runs.items()}
    truth = {name: reference for name, (_, reference) in runs.items()}
    expected = {name: np.full(len(PARTICLES), 5.0 + number) for number, name in enumerate(runs)}
    picked = picks_by_others(candidates, truth, expected)
    for name, found in candidates.items():
        others = {other: truth[other] for other in truth if other != name}
        assert others_of(name, truth).keys() == others.keys()
        probability = fit_calibration(candidates, others).probability(found.score, found.label)
        np.testing.assert_array_equal(picked[name].score, best_expected(found, probability, expected[name]).score)


def test_the_truth_of_a_run_has_no_part_in_its_picks(runs: dict[str, tuple[Picks, Picks]]) -> None:
    candidates = {name: found for name, (found, _) in runs.items()}
    truth = {name: reference for name, (_, reference) in runs.items()}
    expected = dict.fromkeys(runs, np.full(len(PARTICLES), 5.0))
    nothing = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))
    before, after = (picks_by_others(candidates, known, expected) for known in (truth, truth | {"b": nothing}))
    np.testing.assert_array_equal(before["b"].score, after["b"].score)
    assert any(len(before[name]) != len(after[name]) for name in "ac")


def test_a_single_run_is_picked_by_its_own_fit(runs: dict[str, tuple[Picks, Picks]]) -> None:
    found, reference = runs["a"]
    (picked,) = picks_by_others({"a": found}, {"a": reference}, {"a": np.zeros(6)}).values()
    assert len(picked) > 0
