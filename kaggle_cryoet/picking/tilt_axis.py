"""The tilt axis, told by where the missing wedge is: networks know tilt series about y."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.tomogram import Tomogram

logger = logging.getLogger(__name__)

TILT_AXES = ("auto", "y", "x")
SLICES = 16
"""So many slices, evenly spread, tell the axis."""
LEAST_VOXELS = 24
"""Edges shorter than this hold too few frequencies to tell."""
BAND_PER_VOXEL = (0.06, 0.25)
"""Frequencies that are looked at, in cycles per voxel: below there are few waves, above little is left."""
RECORDED_DEGREE, MISSING_DEGREE = 35.0, 65.0
"""Below and above these angles from the slice's horizontal, tilt series have recorded everything and nothing."""
EMPTY = 0.1
"""Power at missing angles, relative to that at recorded ones, below which there is a wedge. Simulated tomograms have
.03 or less, the real one in reach has .008; noise has 1, and what is filled in from .17 on."""
LEAST_CONTRAST = 4.0
"""It must be so many times emptier in the slices across one axis than in those across the other. Simulated tomograms of
the competition's size and tilt range have 8 or more, the real one in reach 32."""


def facing_y(tomogram: Tomogram, tilt_axis: str = "auto") -> tuple[Tomogram, bool]:
    """The tomogram as if it had been tilted about y, and whether y and x had to be exchanged for that.

    Exchanged tomograms are mirror images, which networks know as well. Positions in them are those of
    `Picks.with_y_and_x_exchanged`.
    """
    if tilt_axis == "auto":
        tilt_axis = tilt_axis_of(tomogram.data) or "y"
        if tilt_axis == "x":
            logger.warning("%s: seems to have been tilted about x; networks are shown it as if about y", tomogram.name)
    if tilt_axis == "y":
        return tomogram, False
    return replace(tomogram, data=tomogram.data.swapaxes(1, 2)), True


def tilt_axis_of(volume: NDArray[np.float32]) -> str | None:
    """`y` or `x`, about which the tilt series of a `(z, y, x)` volume was taken; None if no wedge is seen to miss."""
    if min(volume.shape) < LEAST_VOXELS:
        return None
    about_y, about_x = _wedge_power(volume, across=1), _wedge_power(volume, across=2)
    if about_y < EMPTY and about_y * LEAST_CONTRAST < about_x:
        return "y"
    return "x" if about_x < EMPTY and about_x * LEAST_CONTRAST < about_y else None


def _wedge_power(volume: NDArray[np.float32], across: int) -> float:
    """`wedge_power` of some slices along z across an axis."""
    slices = np.moveaxis(volume, across, 0)
    return wedge_power(slices[np.linspace(0, len(slices) - 1, SLICES + 2).round().astype(int)[1:-1]])  # no borders


def wedge_power(slices: NDArray[np.float32]) -> float:
    """Power at steep angles, relative to that at flat ones, in `(n, z, y or x)` slices."""
    slices = slices - slices.mean(axis=(1, 2), keepdims=True)
    depth, width = slices.shape[1:]
    slices *= (np.hanning(depth + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]).astype(np.float32)
    power = (np.abs(np.fft.rfft2(slices)) ** 2).sum(axis=0)
    kz, along = np.abs(np.fft.fftfreq(depth))[:, None], np.fft.rfftfreq(width)
    radius, angle = np.hypot(kz, along), np.degrees(np.arctan2(kz, along))
    band = (radius > BAND_PER_VOXEL[0]) & (radius < BAND_PER_VOXEL[1])
    recorded = float(power[band & (angle < RECORDED_DEGREE)].mean())
    return float(power[band & (angle > MISSING_DEGREE)].mean()) / recorded if recorded > 0 else 1.0
