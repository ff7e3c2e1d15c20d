"""Boxes around the particles that a z-slice shows: each particle is a sphere, cut by the slice to a circle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import angstrom_to_index
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks

RADIUS_ANGSTROM = np.array([particle.radius_angstrom for particle in PARTICLES])
LEAST_CUT = 0.5
"""A slice shows a particle if its circle there has at least this share of the sphere's radius."""
LEAST_VISIBLE = 0.25
"""Share of a box that must lie in the image; at a corner of the tomogram it is a quarter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """Boxes in one image, cut off at its edges."""

    label: NDArray[np.int64]
    """`(n,)` index in `PARTICLES`."""
    centre_yx: NDArray[np.float64]
    """`(n, 2)` centres in pixels; the first pixel covers 0 to 1, so that its centre is at 0.5."""
    size_yx: NDArray[np.float64]
    """`(n, 2)` heights and widths in pixels."""

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.label)


def boxes_in_slice(
    picks: Picks,
    z: int,
    *,
    voxel_angstrom: float,
    origin_yx: tuple[int, int],
    shape_yx: tuple[int, int],
    least_cut: float = LEAST_CUT,
) -> Boxes:
    """Boxes of the particles in a part of slice `z` that begins at pixel `origin_yx`.

    The box of a sphere of radius r whose centre is dz away from the slice is 2 sqrt(r² - dz²) wide.
    """
    centre_zyx = angstrom_to_index(picks.position_zyx_angstrom, voxel_angstrom)
    radius = RADIUS_ANGSTROM[picks.label] / voxel_angstrom
    circle = np.sqrt(np.maximum(radius**2 - (centre_zyx[:, 0] - z) ** 2, 0))[:, None]  # (n, 1)
    centre = centre_zyx[:, 1:] + 0.5 - np.array(origin_yx)
    low, high = np.maximum(centre - circle, 0), np.minimum(centre + circle, np.array(shape_yx))
    size = np.maximum(high - low, 0)
    shown = (circle[:, 0] >= least_cut * radius) & (size.prod(1) >= LEAST_VISIBLE * (2 * circle[:, 0]) ** 2)
    shown &= circle[:, 0] > 0
    return Boxes(label=picks.label[shown], centre_yx=(low + high)[shown] / 2, size_yx=size[shown])


def yolo_lines(boxes: Boxes, shape_yx: tuple[int, int]) -> str:
    """Text of a YOLO label file: class, then centre x, centre y, width and height as shares of the image."""
    centre, size = boxes.centre_yx / np.array(shape_yx), boxes.size_yx / np.array(shape_yx)
    return "".join(
        f"{label} {c[1]:.6f} {c[0]:.6f} {s[1]:.6f} {s[0]:.6f}\n"
        for label, c, s in zip(boxes.label, centre, size, strict=True)
    )
