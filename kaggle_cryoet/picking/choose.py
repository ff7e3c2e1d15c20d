"""Which candidates are picks: those above the thresholds of their types, and near misses where there are too few.

Thresholds are fitted on labelled tomograms. In tomograms that are noisier or thicker than those, a network is less sure
of everything, and too little passes; how many particles there are is known better than how sure a network will be.
Where thresholds are right, few candidates lie closely below them, so that leniency adds little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks


@dataclass(frozen=True, kw_only=True)
class ChooseSettings:
    """How leniently candidates are chosen."""

    odds_factor: float = 3.0
    """The best of those below their threshold are near misses if their odds, score / (1 - score), are more than the
    threshold's divided by this. 1 is strict: nothing below a threshold is chosen."""
    times_expected: float = 3.0
    """Near misses make up the number of a type to this times the expected one, no further."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.odds_factor >= 1 and self.times_expected >= 0):
            raise InputError(f"odds are divided by 1 or more, numbers are not negative, got {self}")


STRICT = ChooseSettings(odds_factor=1.0)
"""Nothing but what is above the thresholds."""


def expected_counts(shape_zyx: Sequence[int], voxel_angstrom: float) -> NDArray[np.float64]:
    """`(6,)` numbers of particles of each type in a tomogram as crowded as the competition's are on average."""
    share = math.prod(shape_zyx) * voxel_angstrom**3 / (math.prod(CZII_SHAPE_ZYX) * CZII_VOXEL_ANGSTROM**3)
    return np.array([particle.mean_count for particle in PARTICLES]) * share


def above(picks: Picks, thresholds: Sequence[float]) -> Picks:
    """Picks whose scores are above the thresholds of their types."""
    return picks.select(picks.score > np.array(thresholds)[picks.label])


def lowered(thresholds: Sequence[float], settings: ChooseSettings) -> tuple[float, ...]:
    """The scores above which candidates are near misses at least."""
    kept = np.clip(thresholds, 0.0, 1.0)  # nothing has a score beyond
    return tuple((kept / (kept + (1 - kept) * settings.odds_factor)).tolist())


def choose(
    candidates: Picks, thresholds: Sequence[float], expected: NDArray[np.float64], settings: ChooseSettings
) -> Picks:
    """Candidates above their thresholds, and the best near misses of types of which those are few.

    Parameters
    ----------
    candidates
        Of one tomogram, down to the lowered thresholds.
    thresholds
        One for each particle type, in the order of `PARTICLES`.
    expected
        `(6,)` expected number of each type, see `expected_counts`.
    settings
        How leniently.
    """
    chosen = candidates.score > np.array(thresholds)[candidates.label]
    near = candidates.score > np.array(lowered(thresholds, settings))[candidates.label]
    for label, most in enumerate(np.rint(settings.times_expected * expected).astype(np.int64)):
        of_type = np.flatnonzero((candidates.label == label) & near)
        best = of_type[np.argsort(-candidates.score[of_type], kind="stable")]
        chosen[best[:most]] = True
    return candidates.select(chosen)
