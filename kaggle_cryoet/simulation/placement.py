"""Where particles lie: inside the ice, alone or in contact with one of their kind, never in one another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Slab:
    """The ice: a slab across the whole field, sloped and bent about the middle of the volume."""

    shape_zyx: tuple[int, int, int]
    """Shape of the volume in voxels."""
    thickness_voxels: float
    """Thickness along z."""
    slope_yx: tuple[float, float]
    """Rise of its middle along y and x, in voxels per voxel."""
    offset_voxels: float
    """Height of its middle over the middle of the volume, at the centre of the field."""

    def middle(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height z of the slab's middle, in voxels, at `y`, `x`."""
        depth, height, width = self.shape_zyx
        tilt = (y - height / 2) * self.slope_yx[0] + (x - width / 2) * self.slope_yx[1]
        return np.asarray(np.clip(depth / 2 + self.offset_voxels + tilt, depth * 0.25, depth * 0.75))

    def draw(self, count: int, margin_voxels: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """`(count, 3)` uniform positions zyx that lie `margin_voxels` inside the ice and inside the volume."""
        depth, height, width = self.shape_zyx
        y = rng.uniform(0, height - 1, count)
        x = rng.uniform(0, width - 1, count)
        middle = self.middle(y, x)
        half = max(self.thickness_voxels / 2 - margin_voxels, 0.5)
        low = np.maximum(middle - half, min(margin_voxels, depth / 2 - 0.5))
        high = np.minimum(middle + half, depth - 1 - min(margin_voxels, depth / 2 - 0.5))
        return np.stack([rng.uniform(np.minimum(low, high), np.maximum(low, high)), y, x], axis=1)

    def contains(self, position: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`(n,)` whether `(n, 3)` positions zyx are inside the ice and the volume."""
        inside = np.all((position >= 0) & (position <= np.array(self.shape_zyx) - 1), axis=-1)
        height = np.abs(position[..., 0] - self.middle(position[..., 1], position[..., 2]))
        return np.asarray(inside & (height <= self.thickness_voxels / 2))


class Occupancy:
    """Balls placed so far, in a grid of cells as wide as the largest ball's diameter."""

    def __init__(self, largest_radius: float) -> None:
        self.cell = 2.0 * largest_radius
        self.balls: dict[tuple[int, int, int], list[tuple[float, float, float, float]]] = {}

    def _key(self, position: NDArray[np.float64]) -> tuple[int, int, int]:
        z, y, x = np.floor(position / self.cell).astype(int)
        return int(z), int(y), int(x)

    def is_free(self, position: NDArray[np.float64], radius: float) -> bool:
        """Whether a ball here would touch none that was placed."""
        z, y, x = position
        cell = self._key(position)
        for dz in (-1, 0, 1):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    for bz, by, bx, other in self.balls.get((cell[0] + dz, cell[1] + dy, cell[2] + dx), ()):
                        if (bz - z) ** 2 + (by - y) ** 2 + (bx - x) ** 2 < (other + radius) ** 2:
                            return False
        return True

    def add(self, position: NDArray[np.float64], radius: float) -> None:
        """Place a ball."""
        z, y, x = (float(value) for value in position)
        self.balls.setdefault(self._key(position), []).append((z, y, x, radius))


def place(
    counts: list[int],
    radius_voxels: list[float],
    *,
    slab: Slab,
    cluster_fraction: float,
    rng: np.random.Generator,
    attempts: int = 200,
) -> list[NDArray[np.float64]]:
    """`(counts[k], 3)` positions zyx in voxels for each kind k, of which no two balls overlap.

    Random sequential adsorption, largest kind first; a share `cluster_fraction` is tried at contact with a ball of the same
    kind that is there already, up to a fifth of a diameter away.

    Raises
    ------
    InputError
        If a ball finds no free place in `attempts` tries: more particles were asked for than fit.
    """
    occupied = Occupancy(max(radius_voxels, default=1.0))
    placed: list[list[NDArray[np.float64]]] = [[] for _ in counts]
    for kind in sorted(range(len(counts)), key=lambda k: -radius_voxels[k]):
        radius = radius_voxels[kind]
        for number in range(counts[kind]):
            for _attempt in range(attempts):
                if placed[kind] and rng.random() < cluster_fraction:
                    direction = rng.normal(size=3)
                    direction /= np.linalg.norm(direction)
                    neighbour = placed[kind][rng.integers(len(placed[kind]))]
                    position = neighbour + direction * 2.0 * radius * rng.uniform(1.001, 1.2)
                    if not slab.contains(position):
                        continue
                else:
                    position = slab.draw(1, min(radius, slab.thickness_voxels / 4), rng)[0]
                if occupied.is_free(position, radius):
                    occupied.add(position, radius)
                    placed[kind].append(position)
                    break
            else:
                raise InputError(
                    f"only {number} of {counts[kind]} particles of radius {radius:.1f} voxels fit into a slab of "
                    f"{slab.shape_zyx[1]} x {slab.shape_zyx[2]} voxels, {slab.thickness_voxels:.0f} thick"
                )
    return [np.array(positions, dtype=np.float64).reshape(-1, 3) for positions in placed]
