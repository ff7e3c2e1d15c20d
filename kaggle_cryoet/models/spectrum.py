"""The spectrum of a model: the radial Fourier amplitude of the tomograms that its network was trained on."""

import math
from collections.abc import Sequence

from kaggle_cryoet.errors import InputError

SHELLS = 56
"""Shells of spatial frequency, from 0 to the corner of the Fourier cube."""
SHELLS_PER_FREQUENCY = 64
"""A shell is so thin: 1/64 of a cycle per voxel."""


def check_spectrum(spectrum: Sequence[float]) -> None:
    """Raise `InputError` unless there is none, or one positive and finite amplitude for each shell."""
    if spectrum and not (len(spectrum) == SHELLS and all(0 < amplitude < math.inf for amplitude in spectrum)):
        raise InputError(f"a spectrum has {SHELLS} positive amplitudes, got {spectrum}")
