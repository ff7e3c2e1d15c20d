"""Fit how likely candidates are particles, given their scores, to labelled tomograms."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kaggle_cryoet.metric import HIT_FRACTION_OF_RADIUS
from kaggle_cryoet.models.calibration import LEAST_DOUBT, Calibration
from kaggle_cryoet.models.odds import logit
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.logistic import fit_logistic

PRIOR = np.array([1.0, 0.0])
"""Slope and offset without examples: scores are taken for probabilities."""
PRIOR_STRENGTH = 1.0


def fit_calibration(candidates: Mapping[str, Picks], truth: Mapping[str, Picks]) -> Calibration:
    """The calibration under which what is a hit, and what is none, is most likely.

    Parameters
    ----------
    candidates
        What was found in each run, down to low scores.
    truth
        True particles of each run.
    """
    score = np.concatenate([candidates[run].score for run in truth])
    label = np.concatenate([candidates[run].label for run in truth])
    hit = np.concatenate([find_hits(candidates[run], reference) for run, reference in truth.items()])
    evidence = logit(score, LEAST_DOUBT)
    fitted = [_fit(evidence[label == kind], hit[label == kind]) for kind in range(len(PARTICLES))]
    slope, offset = zip(*fitted, strict=True)
    return Calibration(slope=slope, offset=offset)


def _fit(evidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset; where better scores hit less often, by chance, scores say nothing."""
    slope, offset = fit_logistic(evidence[:, None], hit, PRIOR, PRIOR_STRENGTH).tolist()
    if slope < 0:
        slope, (offset,) = 0.0, fit_logistic(np.empty((len(hit), 0)), hit, PRIOR[1:], PRIOR_STRENGTH).tolist()
    return slope, offset


def find_hits(picks: Picks, truth: Picks) -> NDArray[np.bool_]:
    """`(n,)` whether each pick is near enough to a true particle of its type to count."""
    hit = np.zeros(len(picks), dtype=bool)
    for label, particle in enumerate(PARTICLES):
        chosen = np.flatnonzero(picks.label == label)
        reference = truth.position_zyx_angstrom[truth.label == label]
        if len(chosen) and len(reference):
            distance, _ = KDTree(reference).query(picks.position_zyx_angstrom[chosen])
            hit[chosen] = distance <= HIT_FRACTION_OF_RADIUS * particle.radius_angstrom
    return hit
