"""The spectrum of a model: the radial Fourier amplitude of the tomograms that its network was trained on."""

from collections.abc import Sequence

import numpy as np

from kaggle_cryoet.errors import InputError

SHELLS = 56
"""Shells of spatial frequency, from 0 to the corner of the Fourier cube."""
SHELLS_PER_FREQUENCY = 64
"""A shell is so thin: 1/64 of a cycle per voxel."""


def check_spectrum(spectrum: Sequence[float]) -> None:
    """Raise `InputError` unless there is none, or one positive and finite amplitude for each shell."""
    found = np.asarray(spectrum, dtype=np.float64)
    if found.size and not (found.shape == (SHELLS,) and np.isfinite(found).all() and found.min() > 0):
        raise InputError(f"a spectrum has {SHELLS} positive amplitudes, got {spectrum}")
