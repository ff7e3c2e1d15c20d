"""The hybrid: how likely a candidate is a particle, given what the 3D U-Net and YOLO11 make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.odds import logistic
from kaggle_cryoet.particles import PARTICLES

FEATURES = ("unet_logit", "yolo_logit", "found_by_unet", "found_by_yolo")
"""What is known of a candidate, in this order: logits of both scores, and 1 or 0 for who proposed it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HybridModel:
    """A logistic model for each particle type."""

    coefficients: tuple[tuple[float, ...], ...]
    """For each type in the order of `PARTICLES`: one for each of `FEATURES`, then the constant."""
    thresholds: tuple[float, ...]
    """Probability above which a candidate is a pick, for each type."""
    provenance: Mapping[str, Any]
    """What it was fitted on, and with which models."""
    calibration: Calibration | None = None
    """What its probabilities are once candidates close to better ones are gone; None in folders of old."""

    def __post_init__(self) -> None:
        """Check the number of the coefficients, and that they are finite."""
        shape = (len(PARTICLES), len(FEATURES) + 1)
        found = np.array([np.shape(row) for row in self.coefficients]).ravel().tolist()
        if found != [shape[1]] * shape[0] or not np.isfinite(self.coefficients).all():
            raise InputError(f"a hybrid needs {shape[0]} rows of {shape[1]} finite coefficients, got rows of {found}")

    def probability(self, features: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.float64]:
        """`(n,)` probabilities that candidates with `(n, 4)` features are particles of the type they are taken for."""
        chosen = np.array(self.coefficients)[label]  # (n, feature + 1)
        return logistic((features * chosen[:, :-1]).sum(axis=1) + chosen[:, -1])
