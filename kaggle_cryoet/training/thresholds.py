"""Score thresholds per particle type, fitted on labelled tomograms to the competition's score."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kaggle_cryoet.metric import BETA, HIT_FRACTION_OF_RADIUS
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


def fit_thresholds(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], *, least_score: float = 0.0, fallback: float = 0.5
) -> tuple[float, ...]:
    """The threshold of each type that gives the best F-beta over all runs.

    It is the middle between the scores of two candidates; of equally good ones it is the highest.

    Parameters
    ----------
    candidates
        What was found in each run, down to low scores.
    truth
        True particles of each run.
    least_score
        Score down to which candidates were looked for; no threshold is below it.
    fallback
        Threshold of a type without a hit.
    """
    return tuple(_fit_threshold(label, candidates, truth, least_score, fallback) for label in range(len(PARTICLES)))


def _fit_threshold(
    label: int, candidates: Mapping[str, Picks], truth: Mapping[str, Picks], least_score: float, fallback: float
) -> float:
    scores, best_near = [], []
    for run, reference in truth.items():
        found = candidates[run].select(candidates[run].label == label)
        scores.append(found.score)
        best_near.append(
            _best_score_near(
                found, reference.position_zyx_angstrom[reference.label == label], PARTICLES[label].radius_angstrom
            )
        )
    score = np.sort(np.concatenate(scores))
    reached = np.sort(np.concatenate(best_near))
    total = len(reached)
    if not len(score) or not np.isfinite(reached).any():
        return fallback
    # candidates are kept above the threshold: at score[i] (from i on) there are len - i of them
    cut = np.unique(score)
    predicted = len(score) - np.searchsorted(score, cut)
    hits = total - np.searchsorted(reached, cut)
    precision, recall = hits / predicted, hits / total
    denominator = BETA**2 * precision + recall
    fbeta = np.where(hits > 0, (1 + BETA**2) * precision * recall / np.maximum(denominator, 1e-12), 0.0)
    best = int(np.flatnonzero(fbeta == fbeta.max())[-1])
    below = cut[best - 1] if best else least_score
    return float((below + cut[best]) / 2)


def _best_score_near(
    found: Picks, reference_angstrom: NDArray[np.float64], radius_angstrom: float
) -> NDArray[np.float64]:
    """`(n,)` highest score of a candidate that hits each of `(n, 3)` references; -inf where none does."""
    best = np.full(len(reference_angstrom), -np.inf)
    if len(found) and len(reference_angstrom):
        near = KDTree(found.position_zyx_angstrom).query_ball_point(
            reference_angstrom, HIT_FRACTION_OF_RADIUS * radius_angstrom
        )
        for reference, indices in enumerate(near):
            if indices:
                best[reference] = found.score[indices].max()
    return best
