"""`Tomogram`: a volume of voxels and their size. Read strictly, written whole or not at all."""

import itertools
import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.mrc import MRC_SUFFIXES, open_mrc
from kaggle_cryoet.ome_zarr import open_ome_zarr, write_ome_zarr
from kaggle_cryoet.stored_volume import StoredVolume, boxes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tomogram:
    """One reconstructed volume."""

    data: NDArray[np.float32]
    """`(z, y, x)` density; particles are dark."""
    voxel_angstrom: float
    """Edge of a voxel in Å."""
    name: str
    """Name of the run, the `experiment` of the submission."""
    voxel_known: bool = True
    """Whether the size of the voxels is known; otherwise it is assumed."""
    resampled_by: float = 1.0
    """So many voxels along each axis stand for one of the file, the first ones' centres being the same."""

    def __post_init__(self) -> None:
        """Bring the volume to C-contiguous float32 and check its form."""
        data = np.ascontiguousarray(self.data, dtype=np.float32)
        if data.ndim != 3 or data.size == 0:
            raise InputError(f"a tomogram has the axes z, y, x and at least one voxel, got shape {data.shape}")
        if not (math.isfinite(self.voxel_angstrom) and self.voxel_angstrom > 0):
            raise InputError(f"a voxel size is positive and finite, got {self.voxel_angstrom} Å")
        object.__setattr__(self, "data", data)

    def slice_in_file(self, z: int) -> int:
        """Index, from 0, of the slice of the file that is nearest to the slice z."""
        return round(z / self.resampled_by)


@dataclass(frozen=True, kw_only=True)
class RunLocation:
    """Where the tomogram of one run is, and its picks."""

    name: str
    """Name of the run, the `experiment` of the submission."""
    tomogram_path: Path
    """An OME-Zarr folder or an MRC file."""
    picks_directory: Path | None
    """Folder of the run's true picks, as `read_labels` takes it; None if there is none."""

    @property
    def specimen(self) -> Path:
        """What tomograms of one specimen share: the folder of the run that its picks lie in, or else of the run itself.

        The tomogram, where it is in no folder of a run.
        """
        if self.picks_directory is None:
            return run_of(self.tomogram_path) or self.tomogram_path
        return run_of(self.picks_directory / "any.zarr") or self.picks_directory.parent


def run_of(tomogram_path: Path) -> Path | None:
    """Folder of the run that a tomogram lies in; None if it lies in none.

    It holds the folder `VoxelSpacing*` of the tomogram in copick's layout, and in that of the CryoET Data Portal a
    folder `Reconstructions` with it, where the tomogram is in `Tomograms/100`.
    """
    for folder in itertools.islice(tomogram_path.parents, 3):
        if folder.name.startswith("VoxelSpacing"):
            run = folder.parent
            return run.parent if run.name == "Reconstructions" else run
    return None


def run_name(tomogram_path: Path) -> str:
    """Name of the run that a tomogram file belongs to: of its run's folder, else of the file without its suffix."""
    run = run_of(tomogram_path)
    has_suffix = tomogram_path.suffix.lower() in (".zarr", *MRC_SUFFIXES)
    alone = tomogram_path.stem.removesuffix(".ome") if has_suffix else tomogram_path.name
    return printable(alone if run is None else run.name)


def printable(name: str) -> str:
    """A name as it can be written: bytes in it that are not UTF-8 are spelt out."""
    return name.encode("utf8", "backslashreplace").decode("utf8")


def read_tomogram(location: RunLocation | str | Path, *, name: str | None = None) -> Tomogram:
    """Tomogram at full resolution, from OME-Zarr (zarr v2 or v3) or MRC.

    Numbers of other types are converted to float32. Beside the volume no more than one of its chunks is held.

    Parameters
    ----------
    location
        A run, or the path of one OME-Zarr folder or MRC file.
    name
        Name of the run; by default that of the location, or `run_name` of the path.

    Raises
    ------
    InputError
        If it does not exist, is no volume of real numbers, is empty, lacks chunks, cannot be decoded, has voxels that
        are not finite, or has only equal voxels. The message names the path.
    """
    if isinstance(location, RunLocation):
        path, name = location.tomogram_path, name or location.name
    else:
        path = Path(location)
    if not path.exists():
        raise InputError(f"{path}: does not exist; expected an OME-Zarr folder or an .mrc or .rec file")
    if path.is_dir():
        stored = open_ome_zarr(path)
    elif path.suffix.lower() in MRC_SUFFIXES:
        stored = open_mrc(path)
    else:
        raise InputError(f"{path}: expected an OME-Zarr folder or an .mrc or .rec file")
    voxel_angstrom = _voxel_angstrom(stored.voxel_zyx_angstrom, path)
    return Tomogram(
        data=_read_voxels(stored, path),
        voxel_angstrom=voxel_angstrom or CZII_VOXEL_ANGSTROM,
        name=name or run_name(path.absolute()),
        voxel_known=voxel_angstrom is not None,
    )


def _read_voxels(stored: StoredVolume, path: Path) -> NDArray[np.float32]:
    """`(z, y, x)` float32 voxels, finite and not all equal."""
    if stored.dtype != np.float32:
        logger.info("%s: voxels of type %s are converted to float32", path, stored.dtype)
    data = np.empty(stored.shape_zyx, dtype=np.float32)
    n_finite = 0
    lowest, highest = math.inf, -math.inf
    for where in boxes(stored.shape_zyx, stored.block_zyx):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is counted
            data[where] = stored.read(where)
        n_finite += int(np.count_nonzero(np.isfinite(data[where])))
        lowest, highest = min(lowest, float(data[where].min())), max(highest, float(data[where].max()))
    if n_finite < data.size:
        raise InputError(f"{path}: {data.size - n_finite} of {data.size} voxels are NaN or infinite; expected none")
    if lowest == highest:
        raise InputError(f"{path}: all voxels have the value {lowest}; expected a tomogram")
    return data


def _voxel_angstrom(voxel_zyx: tuple[float, float, float] | None, path: Path) -> float | None:
    """One voxel size out of what the file says, with a warning if it cannot be quite right; None if it says none."""
    y, x = (0.0, 0.0) if voxel_zyx is None else voxel_zyx[1:]
    if voxel_zyx is None or not (0 < y < math.inf and 0 < x < math.inf):
        said = "" if voxel_zyx is None else f" (it says z, y, x = {voxel_zyx})"
        logger.warning("%s: gives no voxel size%s; %s Å is assumed", path, said, CZII_VOXEL_ANGSTROM)
        return None
    if max(y, x) <= 1.01 * min(y, x):
        if not abs(voxel_zyx[0] / (y + x) - 0.5) < 0.005:
            said = "what y and x say is used, also for z, where positions of picks are off in proportion"
            logger.warning("%s: voxels are not cubes, z, y, x = %s Å; %s", path, voxel_zyx, said)
            return (y + x) / 2
    else:
        logger.warning("%s: voxels are not cubes, z, y, x = %s Å; their mean is used", path, voxel_zyx)
    return math.fsum(voxel_zyx) / 3


def write_tomogram(path: str | Path, tomogram: Tomogram, *, levels: int = 3) -> None:
    """Write an OME-Zarr folder in the form of the competition's files, with folders above it as needed.

    Each level after the first halves the one before by the mean of 2x2x2 voxels. The folder appears under its name only
    when it is complete.

    Raises
    ------
    InputError
        If the path exists already or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: exists already; expected a new path")
    if levels < 1:
        raise InputError(f"a tomogram is written in at least one level, got {levels}")
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        write_ome_zarr(partial, tomogram.data, tomogram.voxel_angstrom, levels)
        partial.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
