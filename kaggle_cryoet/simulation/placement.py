"""Where particles lie: inside the ice, alone or in contact with one of their kind, never in one another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

CONTACT_SPREAD = 1.2
"""Particles in contact lie up to this many diameters apart."""
INTERFACE_SHARE = 0.08
"""Depth of the layer at a surface of the ice, relative to its thickness."""
MOST_PACKED = 0.35
"""Share of the volume that balls laid down at random can fill (random sequential adsorption ends at 0.38)."""


@dataclass(frozen=True, kw_only=True)
class Slab:
    """The ice: a slab across the whole field, sloped about the middle of the volume, thicker at one side."""

    shape_zyx: tuple[int, int, int]
    """Shape of the volume in voxels."""
    thickness_voxels: float
    """Thickness along z at the centre of the field, and on average."""
    slope_yx: tuple[float, float]
    """Rise of its middle along y and x, in voxels per voxel."""
    offset_voxels: float
    """Height of its middle over the middle of the volume, at the centre of the field."""
    taper_yx: tuple[float, float] = (0.0, 0.0)
    """Change of its thickness from one border of the field to the other along y and x, relative to its average."""

    def thickness(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Thickness along z, in voxels, at `y`, `x`."""
        _, height, width = self.shape_zyx
        change = (y / height - 0.5) * self.taper_yx[0] + (x / width - 0.5) * self.taper_yx[1]
        return np.asarray(self.thickness_voxels * (1 + change))

    def middle(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height z of the slab's middle, in voxels, at `y`, `x`; never in the outer quarters of the volume."""
        depth, height, width = self.shape_zyx
        tilt = (y - height / 2) * self.slope_yx[0] + (x - width / 2) * self.slope_yx[1]
        return np.asarray(np.clip(depth / 2 + self.offset_voxels + tilt, depth * 0.25, depth * 0.75))

    def cubic_micrometres(self, voxel_angstrom: float) -> float:
        """Volume of the ice in cubic micrometres."""
        return float(np.prod(self.shape_zyx[1:]) * self.thickness_voxels * (voxel_angstrom * 1e-4) ** 3)

    def z_range(self) -> tuple[float, float]:
        """Lowest and highest z of the ice at the centre of the field, within the volume."""
        depth, height, width = self.shape_zyx
        middle = float(self.middle(np.array(height / 2), np.array(width / 2)))
        return max(middle - self.thickness_voxels / 2, 0.0), min(middle + self.thickness_voxels / 2, depth - 1.0)

    def draw(
        self, count: int, margin_voxels: float, rng: np.random.Generator, *, interface_fraction: float = 0.0
    ) -> NDArray[np.float64]:
        """`(count, 3)` positions zyx that lie `margin_voxels` inside the ice and inside the volume.

        Uniform but for a share `interface_fraction`, which lies as close to either surface as the margin allows.
        """
        y, x = self.draw_across(count, rng)
        z = self.draw_heights(y, x, margin_voxels, rng, interface_fraction=interface_fraction)
        return np.stack([z, y, x], axis=1)

    def draw_heights(
        self,
        y: NDArray[np.float64],
        x: NDArray[np.float64],
        margin_voxels: float,
        rng: np.random.Generator,
        *,
        interface_fraction: float = 0.0,
    ) -> NDArray[np.float64]:
        """`(n,)` heights z at `(n,)` places of the field, as in `draw`."""
        depth = self.shape_zyx[0]
        middle = self.middle(y, x)
        margin = min(margin_voxels, depth / 2 - 0.5)
        half = np.maximum(self.thickness(y, x) / 2 - margin_voxels, 0.5)
        low = np.clip(middle - half, margin, depth - 1 - margin)
        high = np.clip(middle + half, margin, depth - 1 - margin)
        share = rng.random(len(y))
        at_interface = rng.random(len(y)) < interface_fraction
        share = np.where(at_interface, np.where(share < 0.5, 0.0, 1.0) + (0.5 - share) * 2 * INTERFACE_SHARE, share)
        return np.asarray(low + np.clip(share, 0, 1) * (high - low))

    def contains(self, position: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`(n,)` whether `(n, 3)` positions zyx are inside the ice and the volume."""
        inside = np.all((position >= 0) & (position <= np.array(self.shape_zyx) - 1), axis=-1)
        height = np.abs(position[..., 0] - self.middle(position[..., 1], position[..., 2]))
        return np.asarray(inside & (height <= self.thickness(position[..., 1], position[..., 2]) / 2))

    def draw_across(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`count` places `y`, `x` in the field, as many as the ice is thick there, by rejection."""
        _, height, width = self.shape_zyx
        thickest = self.thickness_voxels * (1 + sum(np.abs(self.taper_yx)) / 2)
        places = np.empty((2, 0))
        while places.shape[1] < count:
            drawn = rng.uniform(0, 1, (2, count)) * np.array([[height - 1], [width - 1]])
            kept = rng.uniform(0, thickest, count) < self.thickness(drawn[0], drawn[1])
            places = np.concatenate([places, drawn[:, kept]], axis=1)
        return places[0, :count], places[1, :count]


class Occupancy:
    """Balls placed so far, in a grid of cells as wide as the largest ball's diameter."""

    def __init__(self, largest_radius: float) -> None:
        self._cell = 2.0 * largest_radius
        self._balls: dict[tuple[int, int, int], list[tuple[float, float, float, float]]] = {}

    def is_free(self, position: NDArray[np.float64], radius: float) -> bool:
        """Whether a ball here would touch none that was placed."""
        z, y, x = position.tolist()
        cell_z, cell_y, cell_x = self._key(position)
        for dz in (-1, 0, 1):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    for bz, by, bx, other in self._balls.get((cell_z + dz, cell_y + dy, cell_x + dx), ()):
                        if (bz - z) ** 2 + (by - y) ** 2 + (bx - x) ** 2 < (other + radius) ** 2:
                            return False
        return True

    def add(self, position: NDArray[np.float64], radius: float) -> None:
        """Place a ball."""
        z, y, x = position.tolist()
        self._balls.setdefault(self._key(position), []).append((z, y, x, radius))

    def _key(self, position: NDArray[np.float64]) -> tuple[int, int, int]:
        z, y, x = np.floor(position / self._cell).astype(int).tolist()
        return z, y, x


def place(
    counts: Sequence[int],
    radius_voxels: Sequence[float],
    *,
    names: Sequence[str],
    slab: Slab,
    contact_fraction: Sequence[float],
    occupancy: Occupancy,
    rng: np.random.Generator,
    interface_fraction: float = 0.0,
    is_forbidden: Callable[[NDArray[np.float64], float], bool] | None = None,
    attempts: int = 200,
) -> list[NDArray[np.float64]]:
    """`(counts[k], 3)` positions zyx in voxels for each kind k, of which no two balls overlap.

    Random sequential adsorption, largest kind first; a share `contact_fraction[k]` is tried at contact with a ball of
    the same kind that is there already.

    Parameters
    ----------
    counts, radius_voxels, names, contact_fraction
        One entry per kind.
    slab
        The ice.
    occupancy
        Balls that are there already; receives the new ones.
    rng
        Source of all chance.
    interface_fraction
        Share of the particles at the surfaces of the ice.
    is_forbidden
        Whether a ball of a position and radius lies where none may.
    attempts
        Tries for each ball.

    Raises
    ------
    InputError
        If more particles were asked for than fit: by their volume, or as a ball finds no place in `attempts` tries.
    """
    check_packed(counts, radius_voxels, slab)
    _, height, width = slab.shape_zyx
    placed: list[list[NDArray[np.float64]]] = [[] for _ in counts]
    for kind in sorted(range(len(counts)), key=lambda k: -radius_voxels[k]):
        radius = radius_voxels[kind]
        for number in range(counts[kind]):
            for _attempt in range(attempts):
                if placed[kind] and rng.random() < contact_fraction[kind]:
                    position = _beside(placed[kind][rng.integers(len(placed[kind]))], radius, rng)
                    if not slab.contains(position):
                        continue
                else:
                    margin = min(radius, slab.thickness_voxels / 4)
                    position = slab.draw(1, margin, rng, interface_fraction=interface_fraction)[0]
                if occupancy.is_free(position, radius) and not (is_forbidden and is_forbidden(position, radius)):
                    occupancy.add(position, radius)
                    placed[kind].append(position)
                    break
            else:
                raise InputError(
                    f"only {number} of {counts[kind]} {names[kind]} of radius {radius:.1f} voxels fit into a slab of "
                    f"{height} x {width} voxels, {slab.thickness_voxels:.0f} thick"
                )
    return [np.array(positions, dtype=np.float64).reshape(-1, 3) for positions in placed]


def check_packed(counts: Sequence[int], radius_voxels: Sequence[float], slab: Slab) -> None:
    """Raise `InputError` if balls, so many of each radius, would fill more of a slab than random ones can."""
    _, height, width = slab.shape_zyx
    share = sum(4.19 * n * r**3 for n, r in zip(counts, radius_voxels, strict=True))
    share /= slab.thickness_voxels * height * width
    if share > MOST_PACKED:
        raise InputError(
            f"the particles asked for would fill {100 * share:.0f} % of a slab of {height} x {width} voxels, "
            f"{slab.thickness_voxels:.0f} thick; at most {100 * MOST_PACKED:.0f} % fit"
        )


def _beside(neighbour: NDArray[np.float64], radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(3,)` position zyx of a ball in contact, or nearly, with a ball of the same radius."""
    direction = rng.normal(size=3)
    distance = 2.0 * radius * rng.uniform(1.001, CONTACT_SPREAD)
    return np.asarray(neighbour + direction * (distance / np.linalg.norm(direction)))
