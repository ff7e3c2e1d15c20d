"""Which candidates are picks: those above thresholds, or those from which the best score is to be expected.

Thresholds are fitted on labelled tomograms. In tomograms that are noisier or thicker than those, a network is less sure
of everything, and too little passes. What is to be expected depends on the tomogram: where few candidates are likely,
unlikely ones are worth more, as little is lost by them and much is missed without them.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.metric import BETA
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


def expected_counts(shape_zyx: Sequence[int], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(6,)` numbers of particles of each type in a tomogram as crowded as the competition's are on average."""
    share = math.prod(shape_zyx) * voxel_angstrom**3 / (math.prod(CZII_SHAPE_ZYX) * CZII_VOXEL_ANGSTROM**3)
    return np.array([particle.mean_count for particle in PARTICLES]) * share


def above(picks: Picks, thresholds: Sequence[float]) -> Picks:
    """Picks whose scores are above the thresholds of their types."""
    return picks.select(picks.score > np.array(thresholds)[picks.label])


def best_expected(candidates: Picks, probability: NDArray[np.float64], expected: NDArray[np.float64]) -> Picks:
    """For each type the likeliest candidates, so many of them that F-beta is expected to be best.

    The expected F-beta of `n` picks is `(1 + beta²) hits / (n + beta² particles)`, where `hits` is the sum of their
    probabilities, and `particles` that of all candidates, or the expected number if it is higher.

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
        of_type = np.flatnonzero(candidates.label == label)
        if not len(of_type):
            continue
        likeliest = of_type[np.argsort(-probability[of_type], kind="stable")]
        hits = np.cumsum(probability[likeliest])
        picked = np.arange(1, len(likeliest) + 1)
        fbeta = (1 + BETA**2) * hits / (picked + BETA**2 * max(hits[-1], number))
        chosen[likeliest[: np.argmax(fbeta) + 1]] = True
    return candidates.select(chosen)
