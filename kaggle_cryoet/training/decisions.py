"""What decides about a network's candidates: fitted to labelled tomograms, or of what is in none of them, as it was."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picking.choose import Decides
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import PRIOR, fit_calibration
from kaggle_cryoet.training.thresholds import fit_thresholds


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Thresholds and calibration, as `Decides` has them."""

    thresholds: tuple[float, ...]
    calibration: Calibration


def fit_decisions(
    candidates: Mapping[str, Picks], truth: Mapping[str, Picks], *, known: Decides | None, least_score: float = 0.0
) -> Decisions:
    """Thresholds and calibration fitted to labelled tomograms.

    Of a type of which there is no particle in any of them nothing can be learned: nobody may have looked for it. It
    keeps what is known of it; of what was never calibrated, scores are taken for probabilities.

    Parameters
    ----------
    candidates
        What was found in each run, down to low scores.
    truth
        True particles of each run.
    known
        What decided before; None if that means nothing, and all is to be fitted.
    least_score
        Score down to which candidates were looked for.
    """
    thresholds = fit_thresholds(candidates, truth, least_score=least_score)
    calibration = fit_calibration(candidates, truth)
    if known is None:
        return Decisions(thresholds=thresholds, calibration=calibration)
    absent = set(absent_types(truth.values()))
    thresholds = tuple(
        kept if name in absent else fitted
        for name, fitted, kept in zip(PARTICLE_NAMES, thresholds, known.thresholds, strict=True)
    )
    slope, offset = PRIOR.tolist()
    before = known.calibration or Calibration(slope=(slope,) * len(PARTICLES), offset=(offset,) * len(PARTICLES))
    pairs = calibration.to_json_dict()
    pairs |= {name: pair for name, pair in before.to_json_dict().items() if name in absent}
    return Decisions(thresholds=thresholds, calibration=Calibration.from_json_dict(pairs))


def absent_types(truth: Iterable[Picks]) -> list[str]:
    """Names of the types of which there is no particle in any of the runs."""
    present = np.zeros(len(PARTICLES), dtype=bool)
    for picks in truth:
        present[picks.label] = True
    return [name for name, there in zip(PARTICLE_NAMES, present, strict=True) if not there]
