"""Scores of a fit that no tomogram had a part in its own: each is picked by what was fitted on the others."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.picking.choose import best_expected
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import fit_calibration


def others_of(run: str, truth: Mapping[str, Picks]) -> dict[str, Picks]:
    """The truth of the runs but one; a single run is its own other."""
    return {other: picks for other, picks in truth.items() if other != run} or {run: truth[run]}


def how_left_out(runs: int) -> str:
    """In words, what a score of `picks_by_others` stands for."""
    return "each run by what was fitted on the others" if runs > 1 else "the one run by what was fitted on itself"


def picks_by_others(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], expected: Mapping[str, NDArray[np.float64]]
) -> dict[str, Picks]:
    """Of each run, what is expected to score best by the calibration of the others.

    Parameters
    ----------
    candidates
        What was found in each run, down to low scores.
    truth
        True particles of each run.
    expected
        `(6,)` expected number of each type in each run, see `expected_counts`.
    """
    picks = {}
    for run in truth:
        found = candidates[run]
        calibration = fit_calibration(candidates, others_of(run, truth))
        picks[run] = best_expected(found, calibration.probability(found.score, found.label), expected[run])
    return picks
