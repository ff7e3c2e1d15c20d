"""A particle as a few hundred Gaussian beads: what the simulator rotates and lays into a specimen.

Beads are fitted to a density map once (`bead_fit`); the fitted tables lie in `bead_models/`. A table is a csv with its
provenance in `#` lines above the columns, in ångström and kilodalton, zyx, relative to the centre of mass.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

_COLUMNS = "z_angstrom,y_angstrom,x_angstrom,mass_kilodalton"


@dataclass(frozen=True, kw_only=True, eq=False)
class BeadModel:
    """A particle in its own frame, its centre of mass at the origin."""

    name: str
    """Name of the particle; one of `PARTICLE_NAMES` for those of the competition."""
    position_zyx_angstrom: NDArray[np.float64]
    """`(n, 3)` centres of the beads relative to the centre of mass."""
    mass: NDArray[np.float64]
    """`(n,)` mass of each bead in kilodalton, above 0."""
    sigma_angstrom: float
    """Standard deviation of every bead, the blur of the map it was fitted to included."""
    source: str
    """Entry, makers and licence of the density map."""
    correlation: float
    """Pearson correlation of the rendered beads with the map, both at 10 Å per voxel."""

    def __post_init__(self) -> None:
        if self.mass.ndim != 1 or self.position_zyx_angstrom.shape != (len(self.mass), 3) or len(self.mass) == 0:
            raise InputError(
                f"bead model {self.name!r}: expected (n, 3) positions and (n,) masses of at least one bead, "
                f"got {self.position_zyx_angstrom.shape} and {self.mass.shape}"
            )
        if not np.isfinite(self.position_zyx_angstrom).all() or not (np.isfinite(self.mass) & (self.mass > 0)).all():
            raise InputError(f"bead model {self.name!r}: expected finite positions and masses above 0")
        if not 0 < self.sigma_angstrom < np.inf:
            raise InputError(f"bead model {self.name!r}: expected a sigma above 0 Å, got {self.sigma_angstrom}")
        offset = np.abs(self.mass @ self.position_zyx_angstrom / self.mass.sum()).max()
        if offset > 1e-6:
            raise InputError(f"bead model {self.name!r}: its centre of mass lies {offset:.3g} Å off the origin")

    @property
    def radius_angstrom(self) -> float:
        """Distance from the centre of mass to the outermost bead's centre, plus 2 sigma."""
        return float(np.linalg.norm(self.position_zyx_angstrom, axis=1).max()) + 2 * self.sigma_angstrom

    @property
    def gyration_angstrom(self) -> float:
        """Radius of gyration of the beads' centres, which a light bead far out hardly changes."""
        squared = np.square(self.position_zyx_angstrom).sum(axis=1)
        return float(np.sqrt(self.mass @ squared / self.mass.sum()))


def centred(position: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n, 3)` positions relative to their centre of mass."""
    return np.asarray(position - mass @ position / mass.sum(), dtype=np.float64)


def bead_model_names() -> tuple[str, ...]:
    """Names of the shipped bead models, sorted."""
    return tuple(sorted(file.name.removesuffix(".csv") for file in _shipped().iterdir() if file.name.endswith(".csv")))


@cache
def load_bead_model(name: str) -> BeadModel:
    """Shipped bead model of that name; its arrays are read-only.

    Raises
    ------
    InputError
        If none is shipped under that name.
    """
    if name not in bead_model_names():
        raise InputError(f"no bead model {name!r}; expected one of {', '.join(bead_model_names())}")
    return read_bead_model(_shipped().joinpath(f"{name}.csv"))


def read_bead_model(path: Path | Traversable) -> BeadModel:
    """Bead model of a file that `write_bead_model` wrote.

    Raises
    ------
    InputError
        If the file is not there, or is not such a table.
    """
    try:
        return _parse(path.read_text(encoding="utf8").splitlines(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read bead model {path}: {error}") from error


def write_bead_model(path: Path, model: BeadModel) -> None:
    """Write a bead model as csv: positions to 0.001 Å, masses to 5 digits."""
    lines = [
        f"# name: {model.name}",
        f"# source: {model.source}",
        f"# sigma_angstrom: {model.sigma_angstrom:.3f}",
        f"# correlation: {model.correlation:.4f}",
        _COLUMNS,
        *(
            f"{z:.3f},{y:.3f},{x:.3f},{mass:.5g}"
            for (z, y, x), mass in zip(model.position_zyx_angstrom, model.mass, strict=True)
        ),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")


def render(
    model: BeadModel,
    rotation_zyx: NDArray[np.floating],
    shape: tuple[int, int, int],
    voxel_angstrom: float,
    centre_voxels: Iterable[float],
) -> NDArray[np.float32]:
    """`shape` zyx volume, in kilodalton per voxel, of one rotated particle.

    Parameters
    ----------
    model : BeadModel
        The particle.
    rotation_zyx : (3, 3)
        Acts on zyx columns.
    shape : (z, y, x)
        Of the volume, in voxels.
    voxel_angstrom : float
        Voxel size.
    centre_voxels : (3,)
        Where the centre of mass comes to lie, zyx, in voxel indices.
    """
    from kaggle_cryoet.simulation.splat import splat_beads

    volume = np.zeros(shape, dtype=np.float32)
    position = model.position_zyx_angstrom @ np.asarray(rotation_zyx, dtype=np.float64).T / voxel_angstrom
    splat_beads(volume, position + np.array([*centre_voxels]), model.mass, model.sigma_angstrom / voxel_angstrom)
    return volume


def _shipped() -> Traversable:
    return resources.files("kaggle_cryoet.simulation").joinpath("bead_models")


def _parse(lines: list[str], where: str) -> BeadModel:
    """Bead model of the lines of a table; rounding must not move the centre of mass, so it is set to 0 anew."""
    header = dict(line[1:].strip().partition(": ")[::2] for line in lines if line.startswith("#"))
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    if not rows or rows[0] != _COLUMNS:
        raise InputError(f"{where}: expected the columns {_COLUMNS}, got {rows[0] if rows else 'an empty table'}")
    try:
        table = np.array([[float(value) for value in row.split(",")] for row in rows[1:]]).reshape(-1, 4)
        sigma_angstrom, correlation = float(header["sigma_angstrom"]), float(header["correlation"])
        name, source = header["name"], header["source"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{where}: not a table of beads ({error})") from error
    model = BeadModel(
        name=name,
        position_zyx_angstrom=centred(table[:, :3], table[:, 3]),
        mass=np.ascontiguousarray(table[:, 3]),
        sigma_angstrom=sigma_angstrom,
        source=source,
        correlation=correlation,
    )
    model.position_zyx_angstrom.flags.writeable = False
    model.mass.flags.writeable = False
    return model
