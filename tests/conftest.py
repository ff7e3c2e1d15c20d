"""Inputs that several test modules share."""

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def volume() -> NDArray[np.float32]:
    """`(10, 14, 19)` noise: three different edges, none a multiple of a chunk of 8."""
    return np.random.default_rng(3).normal(size=(10, 14, 19)).astype(np.float32)
