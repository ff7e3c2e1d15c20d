"""Scores of a fit that no tomogram had a part in its own: each is picked by what was fitted on the others."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.picking.choose import Decides, best_expected
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.decisions import fit_decisions

logger = logging.getLogger(__name__)


def trained_on(provenance: Any) -> set[str]:
    """Names of all runs that a model, or one that it came from, was trained on, by its provenance."""
    if isinstance(provenance, list):
        return set().union(*map(trained_on, provenance))
    if not isinstance(provenance, Mapping):
        return set()
    return set(provenance.get("training_runs", ())).union(*map(trained_on, provenance.values()))


def warn_if_trained_on(provenance: Mapping[str, Any], runs: Iterable[str], model: str) -> None:
    """Say so if runs that something is to be fitted to have the names of some that a model was trained on."""
    known = sorted(trained_on(provenance) & set(runs))
    if known:
        logger.warning(
            "%s was trained on runs of the same names (%d, as %s): if they are the same, it finds more in them than it "
            "will elsewhere, and what is fitted to that is too sure, and its score too high",
            model,
            len(known),
            known[0],
        )


def others_of(run: str, truth: Mapping[str, Picks]) -> dict[str, Picks]:
    """The truth of the runs but one; a single run is its own other."""
    return {other: picks for other, picks in truth.items() if other != run} or {run: truth[run]}


def how_left_out(runs: int) -> str:
    """In words, what a score of `picks_by_others` stands for."""
    return "each run by what was fitted on the others" if runs > 1 else "the one run by what was fitted on itself"


def picks_by_others(
    candidates: Mapping[str, Picks],
    truth: Mapping[str, Picks],
    expected: Mapping[str, NDArray[np.float64]],
    *,
    known: Decides | None = None,
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
    known
        What decides of a type that is in none of the others.
    """
    picks = {}
    for run in truth:
        found = candidates[run]
        calibration = fit_decisions(candidates, others_of(run, truth), known=known).calibration
        picks[run] = best_expected(found, calibration.probability(found.score, found.label), expected[run])
    return picks
