"""What was found in each tomogram, in numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.metric import counted
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.matching import match


@dataclass(frozen=True, kw_only=True, eq=False)
class RunCounts:
    """Numbers of particles in one tomogram, `(6,)` in the order of `PARTICLES`."""

    name: str
    """Name of the run."""
    found: NDArray[np.int64]
    """What was found."""
    true: NDArray[np.int64] | None
    """What there is; None without truth."""
    hit: NDArray[np.int64] | None
    """What there is and was found, by the rule of the score; None without truth."""
    false: NDArray[np.int64] | None
    """What was found and hits nothing, or what another one hits; None without truth. A pick that hits two is none."""
    seconds: float | None
    """How long it took to pick; None if it was not measured."""


def count_run(name: str, found: Picks, truth: Picks | None, seconds: float | None) -> RunCounts:
    """Counts of one run; hits are those of `kaggle_cryoet.metric.evaluate`."""
    n_found = np.bincount(found.label, minlength=len(PARTICLES))
    if truth is None:
        return RunCounts(name=name, found=n_found, true=None, hit=None, false=None, seconds=seconds)
    rows = counted({name: found}, {name: truth}).particles.values()
    return RunCounts(
        name=name,
        found=n_found,
        true=np.array([row.true for row in rows]),
        hit=np.array([row.hit for row in rows]),
        false=np.bincount(found.label[~match(found, truth).found_is_hit], minlength=len(PARTICLES)),
        seconds=seconds,
    )
