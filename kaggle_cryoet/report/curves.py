"""Precision, recall and F-beta of each particle type while its threshold rises."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.metric import counted
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks, concatenate


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdCurve:
    """What becomes of one particle type at each of its thresholds."""

    threshold: NDArray[np.float64]
    """`(n,)` falling; picks that score as much or more are kept."""
    precision: NDArray[np.float64]
    """`(n,)`"""
    recall: NDArray[np.float64]
    """`(n,)`"""
    fbeta: NDArray[np.float64]
    """`(n,)`"""


def threshold_curves(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], *, points: int = 64
) -> dict[int, ThresholdCurve]:
    """Curve of each label that has candidates of different scores and true particles.

    The k best candidates of a type are kept, for up to `points` numbers k from one to all of them in equal ratios: the
    many bad candidates get as few points as the few good ones. All values are those of `kaggle_cryoet.metric.evaluate`.
    """
    candidates = {run: candidates[run] for run in truth if run in candidates}
    every, every_true = concatenate(list(candidates.values())), concatenate(list(truth.values()))
    # (class, points): a type without a curve of its own never gets in
    threshold = np.full((len(PARTICLES), points), np.inf)
    for label in np.intersect1d(every.label, every_true.label):
        best_first = np.sort(every.score[every.label == label])[::-1]
        rank = np.geomspace(1, len(best_first), points).round().astype(np.int64) - 1
        if best_first[0] > best_first[-1]:
            threshold[label] = best_first[rank]
    drawn = np.flatnonzero(np.isfinite(threshold[:, 0]))
    if not len(drawn):
        return {}
    scores = []
    for cut in threshold.T:  # (class,)
        kept = {run: picks.select(picks.score >= cut[picks.label]) for run, picks in candidates.items()}
        scores.append(list(counted(kept, truth).particles.values()))
    return {
        int(label): ThresholdCurve(
            threshold=threshold[label],
            precision=np.array([score[label].precision for score in scores]),
            recall=np.array([score[label].recall for score in scores]),
            fbeta=np.array([score[label].fbeta for score in scores]),
        )
        for label in drawn
    }
