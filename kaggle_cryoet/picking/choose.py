"""Which candidates are picks: those above thresholds, or those from which the best score is to be expected.

Thresholds are fitted on labelled tomograms. In tomograms that are noisier or thicker than those, a network is less sure
of everything, and too little passes. What is to be expected depends on the tomogram: where few candidates are likely,
unlikely ones are worth more, as little is lost by them and much is missed without them.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.metric import BETA
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


class Decides(Protocol):
    """What of a model decides which candidates are picks."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One for each particle type."""

    @property
    def calibration(self) -> Calibration | None:
        """How likely candidates are particles, if that was fitted."""


def choose(candidates: Picks, model: Decides, expected: NDArray[np.float64], *, strict: bool = False) -> Picks:
    """Picks among the candidates of a tomogram, of which so many of each type may be expected, see `expected_counts`.

    They are the best expected ones, or all above the thresholds, if these are asked for or the model is not calibrated.
    """
    if strict or model.calibration is None:
        return above(candidates, model.thresholds)
    return best_expected(candidates, model.calibration.probability(candidates.score, candidates.label), expected)


def expected_counts(shape_zyx: Sequence[int], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(6,)` numbers of particles of each type in a tomogram as crowded as the competition's are on average."""
    share = math.prod(shape_zyx) * voxel_angstrom**3 / (math.prod(CZII_SHAPE_ZYX) * CZII_VOXEL_ANGSTROM**3)
    return np.array([particle.mean_count for particle in PARTICLES]) * share


def above(picks: Picks, thresholds: Sequence[float]) -> Picks:
    """Picks whose scores are above the thresholds of their types."""
    return picks.select(picks.score > np.array(thresholds)[picks.label])


def best_expected(candidates: Picks, probability: NDArray[np.float64], expected: NDArray[np.float64]) -> Picks:
    """For each type the likeliest candidates, so many of them that F-beta is expected to be best.

    What may be expected of `n` picks is `(1 + beta²) hits / (n + beta² particles)`, where `hits` is the sum of their
    probabilities, and `particles` that of all candidates, or the expected number if it is higher. There are no more
    than `1 + beta²` picks for each particle that is expected or likelier than not: beyond that F-beta would be below a
    half even if all were found, and the competition pools the false picks of a tomogram with those of all others.

    Parameters
    ----------
    candidates
        Of one tomogram, down to low scores.
    probability
        `(n,)` that each is a particle, see `Calibration`.
    expected
        `(6,)` expected number of each type, see `expected_counts`.

    Notes
    -----
    Source of the principle: Ye, Chai, Lee and Chieu, "Optimizing F-measure: a tale of two approaches", ICML (2012).
    """
    chosen = np.zeros(len(candidates), dtype=bool)
    for label, number in enumerate(expected):
        of_type = np.flatnonzero((candidates.label == label) & (probability > 0))
        if not len(of_type):
            continue
        likeliest = of_type[np.argsort(-probability[of_type], kind="stable")]
        fbeta = _expected_fbeta(probability[likeliest], number)
        likely = np.count_nonzero(probability[likeliest] > 0.5)
        most = math.ceil((1 + BETA**2) * max(number, likely))
        chosen[likeliest[: min(int(np.argmax(fbeta)) + 1, most)]] = True
    return candidates.select(chosen)


def expected_score(candidates: Picks, probability: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The score that is to be expected of `best_expected`, whose arguments these are: how sure a model is.

    Types count by their weights in the competition's score.
    """
    best = np.zeros(len(PARTICLES))
    for label, number in enumerate(expected):
        falling = -np.sort(-probability[candidates.label == label])
        if falling.any():
            best[label] = _expected_fbeta(falling, number).max()
    return float(np.average(best, weights=[particle.weight for particle in PARTICLES]))


def _expected_fbeta(falling: NDArray[np.float64], number: float) -> NDArray[np.float64]:
    """`(n,)` F-beta that is to be expected of the first 1 to n of candidates with falling probabilities of one type."""
    hits = np.cumsum(falling)
    picked = np.arange(1, len(falling) + 1)
    fbeta: NDArray[np.float64] = (1 + BETA**2) * hits / (picked + BETA**2 * max(hits[-1], number))
    return fbeta
