"""The OME-Zarr format of volumes: read from zarr v2 and v3, written as the competition's files are.

Source: OME-NGFF 0.4 and 0.5, https://ngff.openmicroscopy.org.
"""

import itertools
import logging
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.stored_volume import Box, StoredVolume, boxes, checked_shape

if TYPE_CHECKING:
    import zarr

logger = logging.getLogger(__name__)

_CHUNK_ZYX = (256, 256, 256)
_COMPRESSOR: dict[str, Any] = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}
_NAMES_OF_UNITS = {
    1.0: ("angstrom", "angstroms", "ångström", "å", "a"),
    10.0: ("nanometer", "nanometers", "nanometre", "nanometres", "nm"),
    1e4: ("micrometer", "micrometers", "micrometre", "micrometres", "micron", "microns", "um", "µm", "μm"),
    1e10: ("meter", "meters", "metre", "metres", "m"),
}
"""Names of units, in lower case, by their size in Å."""
_BLOSC_HEADER = struct.Struct("<4B3I")  # versions, flags, item size; bytes unpacked, block, bytes packed


def is_store(folder: Path) -> bool:
    """Whether a folder is a zarr store, by what is in it."""
    return any((folder / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))


def open_ome_zarr(path: Path) -> StoredVolume:
    """Full-resolution level of an OME-Zarr group in a zarr v2 or v3 store, or a bare zarr array.

    Raises
    ------
    InputError
        If it is no zarr store, holds no array, its axes are not z, y, x (after others of one entry), or chunks of the
        array are absent or cut off.
    """
    import zarr

    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # metadata can be broken in as many ways as there are kinds of error
        raise InputError(f"{path}: not a readable zarr store: {error}") from error
    voxel = None
    if isinstance(node, zarr.Group):
        level, voxel = _full_resolution(node.attrs.asdict(), path)
        try:
            node = node[level]
        except Exception as error:
            raise InputError(f"{path}: holds no readable array {level!r}: {error!r}") from error
    if not isinstance(node, zarr.Array):
        raise InputError(f"{path}: expected a zarr array at full resolution, got a group")
    single = max(node.ndim - 3, 0) if set(node.shape[:-3]) <= {1} else 0  # axes that hold one volume, as t and c may
    shape = checked_shape(node.shape[single:], node.dtype, path)
    _check_chunk_files(node, path)
    array = node

    def read(where: Box) -> NDArray[Any]:
        try:
            return np.asarray(array[(0,) * single + where])
        except Exception as error:  # each codec has its own kind of error
            start = tuple(edge.start for edge in where)
            raise InputError(f"{path}: the chunk at voxel {start} cannot be decoded: {error}") from error

    return StoredVolume(
        shape_zyx=shape,
        dtype=array.dtype,
        voxel_zyx_angstrom=voxel,
        block_zyx=(array.shards or array.chunks)[single:],
        read=read,
    )


def _full_resolution(attributes: Mapping[str, Any], path: Path) -> tuple[str, tuple[float, float, float] | None]:
    """Path within the group and voxel size in Å of the first level of the first multiscale image."""
    try:
        multiscales = attributes.get("ome", attributes).get("multiscales")
        if not multiscales:
            return "0", None
        image = multiscales[0]
        scaled = [_coarseness(level) for level in image["datasets"]]
        level = image["datasets"][scaled.index(min(scaled)) if math.isfinite(sum(scaled)) else 0]
        if level is not image["datasets"][0]:
            logger.warning("%s: its levels are out of order; the finest, %r, is taken", path, level["path"])
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", "zyx")]
        names = [axis["name"] for axis in axes]
        transforms = level.get("coordinateTransformations", []) + image.get("coordinateTransformations", [])
        scales = [transform["scale"] for transform in transforms if transform["type"] == "scale"]
        if names[-3:] != ["z", "y", "x"] or any(len(scale) != len(names) for scale in scales):
            raise InputError(f"{path}: axes are {names} with scales {scales}; expected z, y, x")
        unit = np.array([_unit_angstrom(axis.get("unit")) for axis in axes[-3:]])
        z, y, x = np.prod(np.array(scales, dtype=np.float64).reshape(-1, len(names))[:, -3:], axis=0) * unit
        return str(level["path"]), (float(z), float(y), float(x)) if scales else None
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its `multiscales` metadata do not follow OME-Zarr: {error!r}") from error


def _coarseness(level: Mapping[str, Any]) -> float:
    """Scale of a level, in whatever units; NaN if it says none."""
    scales = [one["scale"] for one in level.get("coordinateTransformations", []) if one["type"] == "scale"]
    return math.prod(itertools.chain(*scales)) if scales else math.nan


def _unit_angstrom(name: object) -> float:
    """Size of a unit in Å, that of none being 1; NaN if it is not known."""
    if name in (None, ""):
        return 1.0
    return next((size for size, names in _NAMES_OF_UNITS.items() if str(name).lower() in names), math.nan)


def _check_chunk_files(array: "zarr.Array[Any]", path: Path) -> None:
    """Raise if a chunk (or shard) of the array is absent or cut off, where zarr would give its fill value or noise.

    A writer may leave out a chunk that holds nothing but the fill value. A tomogram has noise everywhere, so that here
    this too is a fault.
    """
    unit = array.shards or array.chunks
    grid = itertools.product(*(range(-(-edge // step)) for edge, step in zip(array.shape, unit, strict=True)))
    keys = [array.metadata.encode_chunk_key(index) for index in grid]
    files = [path / array.path / key for key in keys]
    missing = [key for key, file in zip(keys, files, strict=True) if not file.is_file() or file.stat().st_size == 0]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(keys)} chunk files are missing or empty, the first is {missing[0]!r}; "
            "expected all of them: if nothing is lost and these are blank, write it with write_empty_chunks=True"
        )
    if array.shards is None and array.compressors and "blosc" in type(array.compressors[-1]).__name__.lower():
        for key, file in zip(keys, files, strict=True):  # the decoder itself reads past the end of the file
            with file.open("rb") as stream:
                head = stream.read(_BLOSC_HEADER.size)
            packed_bytes = _BLOSC_HEADER.unpack(head)[-1] if len(head) == _BLOSC_HEADER.size else _BLOSC_HEADER.size
            if packed_bytes != file.stat().st_size:
                raise InputError(
                    f"{path}: chunk {key!r} is corrupt: has {file.stat().st_size} bytes, expected {packed_bytes}"
                )


def write_ome_zarr(path: Path, data: NDArray[np.float32], voxel_angstrom: float, levels: int) -> None:
    """Write a `(z, y, x)` volume and its halvings in the form of the competition's files: OME-Zarr 0.4 in zarr v2."""
    import zarr

    axes: list[dict[str, Any]] = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    datasets: list[dict[str, Any]] = [
        {"coordinateTransformations": [{"scale": [voxel_angstrom * 2**level] * 3, "type": "scale"}], "path": str(level)}
        for level in range(levels)
    ]
    group = zarr.open_group(path, mode="a", zarr_format=2)
    group.attrs.put(
        {"multiscales": [{"axes": axes, "datasets": datasets, "metadata": {}, "name": "/", "version": "0.4"}]}
    )
    for level in range(levels):
        data = data if level == 0 else halve(data)
        array = group.create_array(
            str(level),
            shape=data.shape,
            chunks=_CHUNK_ZYX,
            dtype="<f4",
            compressors=_COMPRESSOR,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0.0,
            config={"write_empty_chunks": True},
        )
        for where in boxes((data.shape[0], data.shape[1], data.shape[2]), _CHUNK_ZYX):
            array[where] = data[where]


def halve(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(ceil(z / 2), ceil(y / 2), ceil(x / 2))` means of 2x2x2 voxels.

    Where an edge is odd, its last blocks hold fewer voxels, and the mean is of those.
    """
    for axis in range(3):
        data = np.moveaxis(data, axis, 0)
        mean = data[0::2].copy()
        second = data[1::2]
        mean[: len(second)] += second
        mean[: len(second)] *= np.float32(0.5)
        data = np.moveaxis(mean, 0, axis)
    return np.ascontiguousarray(data)
