"""The MRC format of volumes.

Source: Cheng et al., MRC2014, J. Struct. Biol. 192, 146 (2015).
"""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.stored_volume import Box, StoredVolume, checked_shape

logger = logging.getLogger(__name__)

MRC_SUFFIXES = (".mrc", ".rec")
USUAL_AXES = {(1, 2, 3), (0, 0, 0)}
"""Which axes columns, rows and sections are, x being 1; zeros are what programs write that leave the fields alone."""
_BLOCK_BYTES = 2**24
_GZIP = b"\x1f\x8b"
_IMOD_STAMP = 1146047817
"""Says that the number after it, at byte 156 of a header, is IMOD's flags, of which the first is for signed bytes."""


def open_mrc(path: Path) -> StoredVolume:
    """Volume of an MRC file.

    Raises
    ------
    InputError
        If the header is corrupt, the voxels are no real numbers or not one volume with x fastest, or the file is cut
        off or compressed.
    """
    import mrcfile
    from mrcfile import utils

    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == _GZIP
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if is_compressed:
        raise InputError(f"{path}: is compressed; expected an MRC file as gunzip unpacks it")
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # is of mrcfile, not of the file
            with mrcfile.open(path, header_only=True, permissive=True) as mrc:  # old stamps are no fault of the volume
                header = mrc.header.copy()
        dtype = utils.data_dtype_from_header(header)
        shape = tuple(int(edge) for edge in utils.data_shape_from_header(header))
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable MRC file: {error}") from error
    for note in notes:
        logger.warning("%s: %s", path, note.message)

    if dtype == np.int8 and has_unsigned_bytes(header):
        dtype = np.dtype(np.uint8)
        logger.warning("%s: its bytes are taken for unsigned, as its header says in the way of IMOD", path)
    axes = (int(header.mapc), int(header.mapr), int(header.maps))
    if axes not in USUAL_AXES:
        raise InputError(f"{path}: columns, rows and sections are the axes {axes}; expected x, y, z, that is (1, 2, 3)")
    shape_zyx = checked_shape(shape, dtype, path)
    unset = int(header.mx) == int(header.my) == 1  # by a program that leaves the fields alone
    if int(header.ispg) == 0 and int(header.mz) == 1 < shape_zyx[0] and not unset:
        raise InputError(f"{path}: is a stack of {shape_zyx[0]} images, as its header says; expected a volume")
    offset = header.nbytes + int(header.nsymbt)
    expected_bytes = offset + math.prod(shape_zyx) * dtype.itemsize
    if offset < header.nbytes or path.stat().st_size < expected_bytes:
        raise InputError(f"{path}: cut off, has {path.stat().st_size} bytes; its header asks for {expected_bytes}")
    cell, grid = header.cella, (int(header.mz), int(header.my), int(header.mx))
    voxel = tuple(
        float(edge) / count if count > 0 else 0.0 for edge, count in zip((cell.z, cell.y, cell.x), grid, strict=True)
    )
    slice_voxels = shape_zyx[1] * shape_zyx[2]
    thickness = max(1, _BLOCK_BYTES // (slice_voxels * dtype.itemsize))

    def read(where: Box) -> NDArray[Any]:
        count = (where[0].stop - where[0].start) * slice_voxels
        start = offset + where[0].start * slice_voxels * dtype.itemsize
        return np.fromfile(path, dtype=dtype, count=count, offset=start).reshape(-1, *shape_zyx[1:])

    return StoredVolume(
        shape_zyx=shape_zyx,
        dtype=dtype,
        voxel_zyx_angstrom=(voxel[0], voxel[1], voxel[2]),
        block_zyx=(thickness, shape_zyx[1], shape_zyx[2]),
        read=read,
    )


def has_unsigned_bytes(header: Any) -> bool:
    """Whether the bytes of mode 0 are unsigned: by IMOD's flag, or else by a darkest and brightest voxel beyond signed.

    Source: https://bio3d.colorado.edu/imod/doc/mrc_format.txt.
    """
    stamp, flags = np.frombuffer(header.extra2.tobytes()[40:48], dtype=header.dtype["mode"])  # it begins at byte 112
    if stamp == _IMOD_STAMP:
        return not flags & 1
    return bool(header.dmin >= 0 and header.dmax > np.iinfo(np.int8).max)
