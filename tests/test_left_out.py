"""Each run is picked by what was fitted on the others, and by nothing of its own."""

import numpy as np
import pytest

from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.choose import best_expected
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import fit_calibration
from kaggle_cryoet.training.decisions import Decisions
from kaggle_cryoet.training.left_out import others_of, picks_by_others, trained_on, warn_if_trained_on


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


def test_all_runs_that_a_model_or_its_ancestors_were_trained_on_are_known_by_its_provenance(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ancestor = {"training_runs": ["TS_1"], "started_from": {"training_runs": ["TS_2"], "validation_runs": ["TS_9"]}}
    provenance = {"average_of": [{"training_runs": ["TS_3"]}, {"started_from": ancestor}], "started_from": None}
    assert trained_on(provenance) == {"TS_1", "TS_2", "TS_3"}
    warn_if_trained_on(provenance, ["TS_9", "TS_4"], "model")
    assert not caplog.records
    warn_if_trained_on(provenance, ["TS_9", "TS_3", "TS_2"], "model")
    assert "model was trained on runs of the same names (2, as TS_2)" in caplog.text


def test_a_type_that_one_run_alone_has_is_picked_there_by_what_is_known(runs: dict[str, tuple[Picks, Picks]]) -> None:
    candidates = {name: found for name, (found, _) in runs.items()}
    truth = {name: reference.select((reference.label > 0) | (name == "a")) for name, (_, reference) in runs.items()}
    known = Decisions(thresholds=(0.5,) * 6, calibration=Calibration(slope=(4.0,) * 6, offset=(-1.0,) * 6))
    expected = dict.fromkeys(runs, np.full(len(PARTICLES), 5.0))
    without, having = (picks_by_others(candidates, truth, expected, known=one)["a"] for one in (None, known))
    found = candidates["a"]
    probability = known.calibration.probability(found.score, found.label)
    likeliest = best_expected(found, probability, expected["a"])
    assert (having.label == 0).sum() == (likeliest.label == 0).sum() != (without.label == 0).sum()
    np.testing.assert_array_equal(having.score[having.label > 0], without.score[without.label > 0])
