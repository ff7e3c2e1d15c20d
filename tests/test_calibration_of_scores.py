"""Scores become probabilities: by value, fitted to hits, through a file and back."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.calibration import LEAST_DOUBT, Calibration
from kaggle_cryoet.models.odds import logistic, logit
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import fit_calibration

SIX = len(PARTICLES)


def test_odds_and_probabilities_are_inverse_and_known_at_three_places() -> None:
    np.testing.assert_allclose(logit(np.array([0.5, 0.75, 0.1]), 1e-6), [0.0, np.log(3), -np.log(9)])
    np.testing.assert_allclose(logistic(np.array([0.0, np.log(3), -1e4, 1e4])), [0.5, 0.75, 0.0, 1.0])
    share = np.linspace(0.01, 0.99, 37)
    np.testing.assert_allclose(logistic(logit(share, 1e-6)), share)
    np.testing.assert_allclose(logit(np.array([0.0, 1.0]), 0.2), [-np.log(4), np.log(4)])


def test_each_type_has_its_own_function_of_the_score() -> None:
    calibration = Calibration(slope=(1.0, 2.0, *[0.0] * 4), offset=(0.0, -1.0, *[0.0] * 4))
    found = calibration.probability(np.array([0.3, 0.8, 0.9]), np.array([0, 1, 2]))
    odds = 4.0**2 * np.exp(-1)
    np.testing.assert_allclose(found, [0.3, odds / (1 + odds), 0.5])
    assert np.isfinite(calibration.probability(np.array([0.0, 1.0]), np.array([1, 1]))).all()


def test_a_calibration_survives_a_file() -> None:
    rng = np.random.default_rng(1)
    calibration = Calibration(slope=tuple(rng.random(SIX).tolist()), offset=tuple(rng.random(SIX).tolist()))
    assert Calibration.from_json_dict(json.loads(json.dumps(calibration.to_json_dict()))) == calibration


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_calibration_of_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="all finite"):
        Calibration(slope=(1.0,) * SIX, offset=(0.0,) * (SIX - 1) + (value,))


def test_a_calibration_needs_a_pair_for_each_type_and_no_slope_that_is_negative() -> None:
    with pytest.raises(InputError, match="6 slopes"):
        Calibration(slope=(1.0,) * 5, offset=(0.0,) * 5)
    with pytest.raises(InputError, match="none negative"):
        Calibration(slope=(1.0,) * 5 + (-0.1,), offset=(0.0,) * 6)


def examples(seed: int, *, count: int, slope: float, offset: float) -> tuple[Picks, Picks]:
    """Candidates of one type far from each other, of which some are particles, by a known calibration."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.05, 0.99, count)
    position = np.arange(count)[:, None] * np.array([500.0, 0.0, 0.0])
    hit = rng.random(count) < logistic(slope * logit(score, 1e-6) + offset)
    label = np.full(count, 4)
    found = Picks(position_zyx_angstrom=position, label=label, score=score)
    return found, Picks(position_zyx_angstrom=position[hit] + 20.0, label=label[hit])


def test_the_fit_finds_the_calibration_that_made_the_hits() -> None:
    found, truth = examples(2, count=20000, slope=1.7, offset=-2.5)
    calibration = fit_calibration({"run": found}, {"run": truth})
    assert calibration.slope[4] == pytest.approx(1.7, abs=0.08)
    assert calibration.offset[4] == pytest.approx(-2.5, abs=0.08)
    assert (calibration.slope[0], calibration.offset[0]) == (1.0, 0.0)  # nothing is known of it


def test_the_fit_over_runs_is_that_of_a_general_minimiser() -> None:
    runs = {name: examples(seed, count=60, slope=0.8, offset=-1.0) for name, seed in (("a", 3), ("b", 4))}
    calibration = fit_calibration(
        {name: found for name, (found, _) in runs.items()}, {name: truth for name, (_, truth) in runs.items()}
    )
    evidence = np.concatenate([logit(found.score, LEAST_DOUBT) for found, _ in runs.values()])
    hit = np.concatenate(
        [
            np.isin(found.position_zyx_angstrom[:, 0] + 20.0, truth.position_zyx_angstrom[:, 0])
            for found, truth in runs.values()
        ]
    )

    def loss(parameters: np.ndarray) -> float:
        exponent = parameters[0] * evidence + parameters[1]
        prior = 0.5 * ((parameters[0] - 1) ** 2 + parameters[1] ** 2)
        return float(np.logaddexp(0, exponent).sum() - exponent[hit].sum() + prior)

    best = minimize(loss, [1.0, 0.0], tol=1e-10).x
    np.testing.assert_allclose([calibration.slope[4], calibration.offset[4]], best, atol=1e-4)


def test_a_type_without_a_hit_becomes_unlikely() -> None:
    found, _ = examples(5, count=200, slope=1.0, offset=0.0)
    nothing = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))
    calibration = fit_calibration({"run": found}, {"run": nothing})
    assert calibration.probability(found.score, found.label).max() < 0.1


def test_scores_that_mislead_count_for_nothing() -> None:
    score = np.linspace(0.1, 0.9, 101)
    position = np.arange(101)[:, None] * np.array([500.0, 0.0, 0.0])
    found = Picks(position_zyx_angstrom=position, label=np.full(101, 2), score=score)
    hit = score < 0.3
    truth = Picks(position_zyx_angstrom=position[hit], label=np.full(hit.sum(), 2))
    calibration = fit_calibration({"run": found}, {"run": truth})
    assert calibration.slope[2] == 0
    np.testing.assert_allclose(calibration.probability(score, found.label), hit.mean(), atol=0.02)
