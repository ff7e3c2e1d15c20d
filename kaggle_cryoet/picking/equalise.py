"""Give tomograms the spectrum of those that a network knows, whatever their noise, defocus and denoiser made of it.

The idea is that of amplitude equalisation as in DeePiCt (de Teresa-Trueba et al., Nature Methods 20, 2023): the Fourier
amplitude of a tomogram, averaged over shells of spatial frequency, is brought to that of the training data.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numba import get_num_threads, njit
from numpy.typing import NDArray
from scipy import fft

from kaggle_cryoet.models.spectrum import SHELLS, SHELLS_PER_FREQUENCY
from kaggle_cryoet.picking.normalise import normalise

Shown = Mapping[tuple[float, ...], NDArray[np.float32]]
"""A normalised volume in one or several versions, by the spectrum that each was given."""
MOST_GAIN = 5.0
"""No frequency is made stronger or weaker by more than this."""
SHARE = 0.7
"""How far tomograms go to a model's spectrum: gains are taken to this power.

All of the way would also make noise as strong at every frequency as it was in training, where there is less of a signal
to go with it.
"""


def radial_amplitude(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """`(SHELLS,)` root mean square Fourier amplitude of a `(z, y, x)` volume; that of white noise is 1.

    A shell without a single frequency, in a small volume, has NaN.
    """
    return _amplitude(_transform(volume), volume.shape)


def mean_spectrum(volumes: Iterable[NDArray[np.float32]]) -> tuple[float, ...]:
    """Geometric mean of the radial amplitudes of volumes, shells without a frequency taken from their neighbours."""
    logarithm = np.log(np.maximum([radial_amplitude(volume) for volume in volumes], 1e-6))
    counted = np.isfinite(logarithm)
    total = np.where(counted, logarithm, 0.0).sum(axis=0)
    known = np.flatnonzero(counted.any(axis=0))
    mean = total[known] / counted.sum(axis=0)[known]
    return tuple(np.exp(np.interp(np.arange(SHELLS), known, mean)).tolist())


def equalise(volume: NDArray[np.float32], spectrum: Sequence[float], *, share: float = SHARE) -> NDArray[np.float32]:
    """A normalised `(z, y, x)` volume with another radial amplitude, normalised again.

    Phases, and the shape of the spectrum along directions, such as a missing wedge, stay as they are.

    Parameters
    ----------
    volume
        `(z, y, x)`, normalised; it is left as it was.
    spectrum
        `(SHELLS,)` radial amplitude to give it, see `mean_spectrum`; the volume itself is returned if there is none.
    share
        How far it goes from its own amplitude, 0, to that one, 1; the ratio of both is taken to this power.
    """
    if not spectrum:
        return volume
    transform = _transform(volume)
    gain = np.array(spectrum) / np.maximum(_amplitude(transform, volume.shape), 1e-6)
    gain = np.where(np.isfinite(gain), gain, 1.0)
    _scale(transform, volume.shape[2], np.clip(gain, 1 / MOST_GAIN, MOST_GAIN) ** share)
    equal = fft.irfftn(transform, s=volume.shape, norm="ortho", workers=get_num_threads(), overwrite_x=True)
    del transform  # as large as the volume
    return normalise(equal)


def show(volume: NDArray[np.float32], spectra: Iterable[tuple[float, ...]]) -> Shown:
    """What networks that know these spectra are shown of a normalised volume."""
    return {spectrum: equalise(volume, spectrum) for spectrum in set(spectra)}


def _transform(volume: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Half of the Fourier transform of a real volume, scaled so that white noise of variance 1 has amplitude 1."""
    transform: NDArray[np.complex64] = fft.rfftn(volume, norm="ortho", workers=get_num_threads())
    return transform


def _amplitude(transform: NDArray[np.complex64], shape_zyx: tuple[int, ...]) -> NDArray[np.float64]:
    """`(SHELLS,)` root mean square of a half transform over shells; NaN where a shell is empty."""
    power, count = _shell_power(transform, shape_zyx[2])
    return np.sqrt(np.where(count > 0, power / np.maximum(count, 1), np.nan))


@njit(cache=True, nogil=True)
def _frequency(index: int, size: int) -> float:
    """Cycles per voxel at an index of a transform."""
    return (index if 2 * index <= size else index - size) / size


@njit(cache=True, nogil=True)
def _shell_power(transform: NDArray[np.complex64], width: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of the power in each shell, and the number of frequencies; the mean grey value is left out."""
    power, count = np.zeros(SHELLS), np.zeros(SHELLS, dtype=np.int64)
    depth, height, half = transform.shape
    for z in range(depth):
        for y in range(height):
            squared = _frequency(z, depth) ** 2 + _frequency(y, height) ** 2
            for x in range(1 if z == 0 and y == 0 else 0, half):
                shell = int(np.sqrt(squared + (x / width) ** 2) * SHELLS_PER_FREQUENCY)
                value = transform[z, y, x]
                power[shell] += value.real * value.real + value.imag * value.imag
                count[shell] += 1
    return power, count


@njit(cache=True, nogil=True)
def _scale(transform: NDArray[np.complex64], width: int, gain: NDArray[np.float64]) -> None:
    """Multiply a half transform, in place, by the gains of shells, linear between their middles."""
    depth, height, half = transform.shape
    for z in range(depth):
        for y in range(height):
            squared = _frequency(z, depth) ** 2 + _frequency(y, height) ** 2
            for x in range(half):
                place = np.sqrt(squared + (x / width) ** 2) * SHELLS_PER_FREQUENCY - 0.5
                place = min(max(place, 0.0), SHELLS - 1.001)
                below = int(place)
                share = place - below
                transform[z, y, x] *= np.float32(gain[below] * (1 - share) + gain[below + 1] * share)
