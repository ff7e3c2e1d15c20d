"""Tomograms of any origin as the networks know them: dark particles on even ground, voxels as the competition's."""

import itertools
import logging
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.picking.drift import without_drift
from kaggle_cryoet.picking.normalise import HIGHEST, LOWEST, median_and_spread
from kaggle_cryoet.picking.padding import fill_padding, padded_voxels
from kaggle_cryoet.picking.tilt_axis import TILT_AXES, facing_y
from kaggle_cryoet.tomogram import RunLocation, Tomogram, read_tomogram

logger = logging.getLogger(__name__)

TONES = ("auto", "dark", "bright")
"""Of the particles in a tomogram."""
LEAST_SKEW = 0.2
"""Grey values less skewed than this do not tell whether particles are dark or bright."""
MOST_SPREADS = 10.0
"""Grey values further than this from the median say no more about skew than those that are as far."""
SKEW_BLOCKS = 200_000
"""About so many blocks of voxels, evenly spread, tell the skew."""
MOST_DEPTH = 1.2
"""A volume that is thicker than this many times its shorter edge seems to have its axes out of order."""
SAME_SCALE = 0.03
"""Voxels that differ by less than this share from the competition's are taken as they are: networks are trained on
particles that vary in size as much."""
COARSE_ANGSTROM = 15.0
"""Voxels larger than this do not resolve what tells small particles apart."""
FINEST_ANGSTROM, COARSEST_ANGSTROM = 2.0, 40.0
"""Tomograms of whole fields have voxels in between; others are those of a header that nobody filled in."""
KNOWN_VOXELS = f"the {CZII_VOXEL_ANGSTROM:.4g} Å that the networks know"
"""Said where voxels are not so large."""
LEAST_PADDING, MOST_PADDING = 16, 80
"""Voxels by which an axis is continued before it is resampled."""
BLOCK_VOXELS = 16_000_000
"""About so many are resampled at a time."""


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """What a user knows better than a tomogram says."""

    tone: str = "auto"
    """Particles are `dark` or `bright`; `auto`: as `tone_of` says, dark if it does not."""
    voxel_angstrom: float | None = None
    """Edge of a voxel in Å, in place of that in the file."""
    tilt_axis: str = "auto"
    """Of the tilt series, `y` or `x`; `auto`: by the missing wedge, as `facing_y` does."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.tone not in TONES:
            raise InputError(f"particles are {' or '.join(TONES)}, got {self.tone!r}")
        if self.tilt_axis not in TILT_AXES:
            raise InputError(f"a tilt axis is {' or '.join(TILT_AXES)}, got {self.tilt_axis!r}")
        if self.voxel_angstrom is not None and not FINEST_ANGSTROM <= self.voxel_angstrom <= COARSEST_ANGSTROM:
            expected = f"{FINEST_ANGSTROM:g} to {COARSEST_ANGSTROM:g} Å, as tomograms of whole fields have"
            raise InputError(f"expected a voxel size of {expected}, got {self.voxel_angstrom} Å")


def adapt(tomogram: Tomogram, settings: AdaptSettings | None = None, *, says_doubt: bool = True) -> Tomogram:
    """A tomogram with dark particles, voxels of `CZII_VOXEL_ANGSTROM`, no padding and no drift; itself if it is so.

    Positions in Å stay what they are, unless the voxel size cannot be right: then voxels are taken for those of the
    competition, as where the file has no size at all, with a warning. Axes that seem to be out of order are left. That
    grey values do not tell the tone, as those of many noisy tomograms, is said if `says_doubt`.
    """
    settings = settings or AdaptSettings()
    depth, height, width = tomogram.data.shape
    if depth > MOST_DEPTH * min(height, width):
        logger.warning(
            "%s: has %d x %d x %d voxels, z y x, and is thin along %s; expected along z: are its axes in order?",
            tomogram.name,
            *(depth, height, width),
            "y" if height < width else "x",
        )
    tomogram = _with_its_voxel_size(tomogram, settings)
    padded = padded_voxels(tomogram.data)
    data = without_drift(tomogram.data, tomogram.voxel_angstrom, tomogram.name, padded)
    if data is not tomogram.data:
        tomogram = replace(tomogram, data=data)
    del data
    if padded is not None:
        tomogram = replace(tomogram, data=fill_padding(tomogram.data, padded, tomogram.name))
    del padded
    tone: str | None = settings.tone
    if tone == "auto":
        tone = tone_of(tomogram.data)
        if tone == "bright":
            logger.warning("%s: its particles seem to be bright; its grey values are inverted", tomogram.name)
        elif tone is None and says_doubt:
            said = "its grey values do not tell whether particles are dark or bright; they are taken for dark"
            logger.warning("%s: %s (--particles bright says otherwise)", tomogram.name, said)
    if tone == "bright":
        tomogram = replace(tomogram, data=-tomogram.data)
    factor = tomogram.voxel_angstrom / CZII_VOXEL_ANGSTROM
    if abs(factor - 1) <= SAME_SCALE:
        return tomogram
    unresolved = ", which do not resolve small particles" if tomogram.voxel_angstrom > COARSE_ANGSTROM else ""
    logger.warning("%s%s; it is resampled to %s", _voxels_of(tomogram), unresolved, KNOWN_VOXELS)
    median, spread = median_and_spread(tomogram.data)
    bounds = median + LOWEST * spread, median + HIGHEST * spread  # what is beyond would ring
    resampled = resample(tomogram.data, factor, bounds)
    return replace(tomogram, data=resampled, voxel_angstrom=CZII_VOXEL_ANGSTROM, resampled_by=factor)


def _with_its_voxel_size(tomogram: Tomogram, settings: AdaptSettings) -> Tomogram:
    """The tomogram with the voxel size that a user says, or the competition's if its own cannot be right."""
    if settings.voxel_angstrom is not None:
        return replace(tomogram, voxel_angstrom=settings.voxel_angstrom, voxel_known=True)
    if FINEST_ANGSTROM <= tomogram.voxel_angstrom <= COARSEST_ANGSTROM:
        return tomogram
    taken = f"they are taken for {KNOWN_VOXELS}, also in the positions of picks (--voxel says otherwise)"
    logger.warning("%s, which cannot be right; %s", _voxels_of(tomogram), taken)
    return replace(tomogram, voxel_angstrom=CZII_VOXEL_ANGSTROM, voxel_known=False)


def _voxels_of(tomogram: Tomogram) -> str:
    """Said of a tomogram whose voxels are not as networks know them."""
    return f"{tomogram.name}: has voxels of {tomogram.voxel_angstrom:.4g} Å"


def read_adapted(
    run: RunLocation, settings: AdaptSettings | None = None, *, says_doubt: bool = True
) -> tuple[Tomogram, bool]:
    """The tomogram of a run, adapted, as if tilted about y, and whether y and x had to be exchanged for that."""
    settings = settings or AdaptSettings()
    return facing_y(adapt(read_tomogram(run), settings, says_doubt=says_doubt), settings.tilt_axis)


def tone_of(volume: NDArray[np.floating]) -> str | None:
    """`dark` or `bright`, the side to which blocks of 2x2x2 voxels of `(z, y, x)` are skewed; None if to neither.

    What is dense is rare, so that its side has the longer tail, which the blocks' smaller noise lets show. Padding
    would decide; `fill_padding` comes first.
    """
    from scipy.stats import skew

    step = 2 * math.ceil((volume.size / 8 / SKEW_BLOCKS) ** (1 / 3))
    starts = [range(min(2, edge)) for edge in volume.shape]
    whole = tuple(slice(max(edge - edge % 2, 1)) for edge in volume.shape)
    voxels = np.array([volume[whole][z::step, y::step, x::step] for z, y, x in itertools.product(*starts)])
    blocks = voxels.mean(axis=0, dtype=np.float64)
    low, median, high = np.quantile(blocks, [0.1587, 0.5, 0.8413])
    bound = MOST_SPREADS * (high - low) / 2
    found = float(skew(np.clip(blocks, median - bound, median + bound), axis=None)) if bound else 0.0
    if abs(found) < max(LEAST_SKEW, 6 * (6 / blocks.size) ** 0.5):  # of which few blocks of noise have a sixth
        return None
    return "dark" if found < 0 else "bright"


def resample(
    volume: NDArray[np.float32], factor: float, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> NDArray[np.float32]:
    """`(z, y, x)` volume with `factor` voxels in the place of one along each axis, the first ones' centres kept.

    Fourier coefficients are kept, cut off or filled up with 0, so that nothing is blurred and nothing aliases. An axis
    of one voxel stays. Values outside of the bounds count as those, for which no copy of the volume is made.
    """
    for axis, edge in enumerate(volume.shape):
        if edge > 1:
            volume = _resample_axis(volume, factor, axis, bounds)
            bounds = (-math.inf, math.inf)
    return volume


def _resample_axis(
    volume: NDArray[np.float32], factor: float, axis: int, bounds: tuple[float, float]
) -> NDArray[np.float32]:
    """The same along one axis, which is continued to a length that has a whole number of the new voxels."""
    from scipy.signal import resample as resample_periodic

    edge = volume.shape[axis]
    continued = np.arange(edge + LEAST_PADDING, edge + MOST_PADDING)
    best = int(np.abs(continued * factor - np.round(continued * factor)).argmin())
    padding = int(continued[best]) - edge
    length = round(float(continued[best] * factor))
    kept = int((edge - 1) * factor) + 1
    # the transform takes the axis for a ring: after its end comes its mirror image, which fades into that of its start
    around = np.pad(np.arange(edge), padding, mode="symmetric")
    weight = np.sin(np.pi / 2 * (np.arange(padding) + 0.5) / padding).astype(np.float32) ** 2

    across, along = (1, 1) if axis == 0 else (0, axis)  # what is done bit by bit comes first
    shape = list(volume.shape)
    shape[axis] = kept
    resampled = np.empty(shape, dtype=np.float32)
    at_once = max(BLOCK_VOXELS * volume.shape[across] // volume.size, 1)
    for start in range(0, volume.shape[across], at_once):
        some = slice(start, start + at_once)
        part = np.moveaxis(np.moveaxis(volume, across, 0)[some], along, -1).clip(*bounds)
        ring = part[..., around[-padding:]] * (1 - weight) + part[..., around[:padding]] * weight
        made = resample_periodic(np.concatenate([part, ring], axis=-1), length, axis=-1)[..., :kept]
        np.moveaxis(resampled, across, 0)[some] = np.moveaxis(made, -1, along)
    return resampled
