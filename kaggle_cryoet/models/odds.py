"""Probabilities and the logarithm of their odds."""

import numpy as np
from numpy.typing import NDArray


def logit(probability: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Logarithm of the odds, of probabilities kept `least` away from 0 and 1."""
    kept = np.clip(probability, least, 1 - least)
    odds: NDArray[np.float64] = np.log(kept / (1 - kept))
    return odds


def logistic(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability whose odds have this logarithm; it never overflows."""
    probability: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * log_odds))
    return probability
