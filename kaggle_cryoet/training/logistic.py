"""Logistic regression that leans on a prior, so that few examples make little difference to it."""

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.models.odds import logistic

STEPS = 100
SMALLEST_STEP = 1e-9


def fit_logistic(
    features: NDArray[np.float64], hit: NDArray[np.bool_], prior: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """`(feature + 1,)` coefficients, the constant last, under which the examples are most likely; by Newton's method.

    Parameters
    ----------
    features
        `(n, feature)`.
    hit
        `(n,)`.
    prior
        `(feature + 1,)` coefficients as they are without examples.
    strength
        Of the prior: a coefficient 1 away from it costs half of this in log likelihood.
    """
    design = np.column_stack([features, np.ones(len(features))])
    coefficients = prior.astype(np.float64)
    loss = _loss(coefficients, design, hit, prior, strength)
    for _ in range(STEPS):
        probability = logistic(design @ coefficients)
        gradient = design.T @ (probability - hit) + strength * (coefficients - prior)
        curvature = (design.T * (probability * (1 - probability))) @ design + strength * np.eye(len(prior))
        step = np.linalg.solve(curvature, gradient)
        shrink = 1.0
        while (closer := _loss(coefficients - shrink * step, design, hit, prior, strength)) > loss and shrink > 1e-6:
            shrink /= 2
        coefficients = coefficients - shrink * step
        loss = closer
        if np.abs(shrink * step).max() < SMALLEST_STEP:
            break
    return coefficients


def _loss(
    coefficients: NDArray[np.float64],
    design: NDArray[np.float64],
    hit: NDArray[np.bool_],
    prior: NDArray[np.float64],
    strength: float,
) -> float:
    """Negative log likelihood of the examples and the prior, but for a constant."""
    exponent = design @ coefficients
    likelihood = np.logaddexp(0, exponent).sum() - exponent[hit].sum()
    return float(likelihood + 0.5 * strength * ((coefficients - prior) ** 2).sum())
