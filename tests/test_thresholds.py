import numpy as np
import pytest

from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import Picks, concatenate
from kaggle_cryoet.training.module import above_thresholds
from kaggle_cryoet.training.thresholds import fit_thresholds

RIBOSOME = 3


def picks_of(label, position, score=()):
    position = np.asarray(position, dtype=np.float64).reshape(-1, 3)
    return Picks(position_zyx_angstrom=position, label=np.full(len(position), label), score=np.asarray(score))


def random_case(seed, *, runs=3, ties=False):
    """True particles, and candidates near half of them and anywhere else; near ones tend to score higher."""
    rng = np.random.default_rng(seed)
    truth, candidates = {}, {}
    for run in range(runs):
        true, found = [], []
        for label, particle in enumerate(PARTICLES):
            position = rng.uniform(0, 2500, (rng.integers(4, 15), 3))
            near = position + rng.normal(0, 0.3 * particle.radius_angstrom, position.shape)
            far = rng.uniform(0, 2500, (rng.integers(5, 40), 3))
            score = np.concatenate([rng.beta(4, 2, len(near)), rng.beta(2, 4, len(far))])
            true.append(picks_of(label, position))
            found.append(picks_of(label, np.concatenate([near, far]), score.round(1) if ties else score))
        truth[f"run{run}"], candidates[f"run{run}"] = concatenate(true), concatenate(found)
    return candidates, truth


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_of_a_sweep_scores_better_by_the_metric(seed, ties):
    candidates, truth = random_case(seed, ties=ties)
    fitted = fit_thresholds(candidates, truth)
    at_fitted = evaluate(above_thresholds(candidates, fitted), truth).particles
    every = np.unique(np.concatenate([picks.score for picks in candidates.values()]))
    sweep = [
        evaluate(above_thresholds(candidates, [cut] * 6), truth).particles
        for cut in np.concatenate([[0.0], (every[1:] + every[:-1]) / 2])
    ]
    for name in PARTICLE_NAMES:
        best = max(particles[name].fbeta for particles in sweep)
        assert at_fitted[name].fbeta == pytest.approx(best, abs=1e-12), name


def test_the_threshold_is_halfway_between_the_scores_it_separates():
    truth = {"a": picks_of(RIBOSOME, [[0, 0, 0], [1000, 0, 0]])}
    found = {
        "a": picks_of(
            RIBOSOME, [[0, 0, 9], [1000, 0, 9]] + [[0, 1000.0 * k, 0] for k in range(1, 9)], [0.9, 0.6] + [0.2] * 8
        )
    }
    assert fit_thresholds(found, truth)[RIBOSOME] == pytest.approx(0.4)


def test_of_equally_good_thresholds_the_highest_is_taken():
    # one hit of two with one prediction, or both with 34: F-beta is 17 p r / (16 p + r) = 17 / 33 either way
    truth = {"a": picks_of(RIBOSOME, [[0, 0, 0], [5000, 0, 0]])}
    false = [[0, 1000.0 * k, 0] for k in range(1, 33)]
    found = {"a": picks_of(RIBOSOME, [[0, 0, 0], *false, [5000, 0, 0]], [0.9] + [0.5] * 32 + [0.3])}
    low = evaluate(found, truth).particles["ribosome"].fbeta
    high = evaluate(above_thresholds(found, [0.7] * 6), truth).particles["ribosome"].fbeta
    assert low == pytest.approx(high)
    assert fit_thresholds(found, truth)[RIBOSOME] == pytest.approx(0.7)


def test_a_threshold_is_not_below_the_score_down_to_which_was_looked():
    truth = {"a": picks_of(RIBOSOME, [[0, 0, 0]])}
    found = {"a": picks_of(RIBOSOME, [[0, 0, 0]], [0.07])}
    assert fit_thresholds(found, truth)[RIBOSOME] == pytest.approx(0.035)
    assert fit_thresholds(found, truth, least_score=0.05)[RIBOSOME] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("true", "found"),
    [([], [[0, 0, 0]]), ([[0, 0, 0]], []), ([], []), ([[0, 0, 0]], [[900, 900, 900]])],
)
def test_a_type_without_a_hit_gets_the_fallback(true, found):
    truth = {"a": picks_of(RIBOSOME, true)}
    candidates = {"a": picks_of(RIBOSOME, found, [0.4] * len(found))}
    assert fit_thresholds(candidates, truth, fallback=0.45) == (0.45,) * 6


def test_picks_are_kept_above_the_thresholds_of_their_types():
    picks = Picks(
        position_zyx_angstrom=np.zeros((4, 3)), label=np.array([0, 0, 5, 5]), score=np.array([0.3, 0.31, 0.7, 0.71])
    )
    kept = above_thresholds({"a": picks}, [0.3, 1, 1, 1, 1, 0.7])["a"]
    assert kept.score.tolist() == [0.31, 0.71]
