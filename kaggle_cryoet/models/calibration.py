"""How likely a candidate is a particle, given its score: scores of networks are ranks, and not probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.odds import logistic, logit
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES

LEAST_DOUBT = 1e-3
"""Scores count as no nearer to 0 and 1 than this."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """For each particle type, in the order of `PARTICLES`, a logistic function of the logit of the score.

    Source: Platt, Advances in Large Margin Classifiers (1999), 61.
    """

    slope: tuple[float, ...]
    """Of the logarithm of a probability's odds over that of a score's; not negative, as better scores are likelier."""
    offset: tuple[float, ...]
    """Logarithm of the odds of a candidate whose score is a half."""

    def __post_init__(self) -> None:
        """Check that there is a finite pair for each type."""
        whole = len(self.slope) == len(self.offset) == len(PARTICLES) and np.isfinite([self.slope, self.offset]).all()
        if not whole or min(self.slope) < 0:
            raise InputError(
                f"expected {len(PARTICLES)} slopes, none negative, and as many offsets, all finite, got {self}"
            )

    def probability(self, score: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64]:
        """`(n,)` probabilities that candidates are particles of the type they are taken for."""
        return logistic(np.array(self.slope)[label] * logit(score, LEAST_DOUBT) + np.array(self.offset)[label])

    def to_json_dict(self) -> dict[str, list[float]]:
        """`{name: [slope, offset]}` of each particle type."""
        return {name: list(pair) for name, *pair in zip(PARTICLE_NAMES, self.slope, self.offset, strict=True)}

    @staticmethod
    def from_json_dict(content: Mapping[str, Any]) -> "Calibration":
        """What `to_json_dict` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        slope, offset = zip(*((float(a), float(b)) for a, b in (content[name] for name in PARTICLE_NAMES)), strict=True)
        return Calibration(slope=slope, offset=offset)
