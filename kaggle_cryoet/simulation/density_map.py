"""Density maps of structures, as the protein and microscopy data banks have them."""

import logging
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.mrc import USUAL_AXES, has_unsigned_bytes

logger = logging.getLogger(__name__)


def read_map(path: Path) -> tuple[NDArray[np.float32], float]:
    """`(z, y, x)` density of an MRC file, and its voxel size in Å.

    Raises
    ------
    InputError
        If the file is no MRC volume, its axes are not stored in the order z, y, x, or its voxel is not a cube of
        0.5 to 15 Å.
    """
    import mrcfile

    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            file = mrcfile.open(path, permissive=True)  # old stamps are no fault of the map
        said = list(dict.fromkeys(str(note.message) for note in notes))
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a sampling of 0, which is refused below
            if file.data is None:
                raise ValueError("; ".join(said) or "it holds no data")
            stored = np.array(file.data)
            if stored.dtype == np.int8 and has_unsigned_bytes(file.header):
                stored = stored.view(np.uint8)
            order = tuple(int(axis) for axis in (file.header.mapc, file.header.mapr, file.header.maps))
            voxel = np.array([file.voxel_size.z, file.voxel_size.y, file.voxel_size.x], dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, zlib.error) as error:  # the last two of what is compressed
        raise InputError(f"{path}: cannot be read as an MRC map ({error})") from error
    if said:
        logger.warning("%s: is read in spite of what is unusual about it: %s", path, "; ".join(said))
    if np.iscomplexobj(stored):
        raise InputError(f"{path}: expected a density, got complex numbers")
    density = stored.astype(np.float32)
    if density.ndim != 3:
        raise InputError(f"{path}: expected a map of 3 axes, got {density.ndim}")
    if order not in USUAL_AXES:
        raise InputError(f"{path}: expected axes stored as columns x, rows y, sections z (1, 2, 3), got {order}")
    if not np.isfinite(density).all():
        raise InputError(f"{path}: the map holds values that are not finite")
    if not np.isfinite(voxel).all() or np.ptp(voxel) > 0.01 * voxel.max() or not 0.5 <= voxel.max() <= 15.0:
        raise InputError(f"{path}: expected a cubic voxel of 0.5 to 15 Å, got {voxel.round(4).tolist()}")
    return density, float(voxel.mean())
