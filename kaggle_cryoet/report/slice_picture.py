"""The picture of one z-slice: densities, circles, a scale bar and the legend."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import angstrom_to_index
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.marks import crosses, dots, pluses, rings, strokes, write
from kaggle_cryoet.report.matching import Matching
from kaggle_cryoet.report.style import DARK, fit_text, new_figure
from kaggle_cryoet.tomogram import Tomogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 1260
"""Of the picture, in pixels; a slice is at most as wide and as high. It is twice the 630 voxels of the competition."""
HEADER = 64
"""Height above the slice, in pixels."""
FOOTER = 112
"""Height below it, in pixels."""
MARGIN = 22
"""Between what is written and the edges, in pixels."""
PERCENTILES = (0.5, 99.5)
"""Of the densities in a slice: below the first is black, above the second is white."""
SCALE_BARS_NM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Lengths a scale bar may have; it is the longest that takes no more than a quarter of the slice's width."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where in the picture a slice is, in pixels from the upper left corner: x to the right, y downwards."""

    rows: int
    """Voxels of the slice in y."""
    columns: int
    """Voxels of the slice in x."""

    @property
    def pixels_per_voxel(self) -> float:
        """A whole number if the slice has fewer voxels than there are pixels."""
        fit = WIDTH / max(self.rows, self.columns)
        return float(int(fit)) if fit >= 1 else fit

    @property
    def left(self) -> float:
        """Of the slice, which is in the middle of the picture."""
        return round((WIDTH - self.columns * self.pixels_per_voxel) / 2)

    @property
    def right(self) -> float:
        """Right edge of the slice."""
        return self.left + self.columns * self.pixels_per_voxel

    @property
    def bottom(self) -> float:
        """Lower edge of the slice, whose upper edge is at `HEADER`."""
        return HEADER + self.rows * self.pixels_per_voxel

    @property
    def height(self) -> int:
        """Height of the picture."""
        return round(self.bottom) + FOOTER

    def to_pixels(self, position_zyx_angstrom: NDArray[np.float64], voxel_angstrom: float) -> NDArray[np.float64]:
        """`(n, 2)` xy of `(n, 3)` positions; the centre of the first voxel is half a voxel from the slice's corner."""
        index = angstrom_to_index(position_zyx_angstrom, voxel_angstrom)
        return (index[:, [2, 1]] + 0.5) * self.pixels_per_voxel + [self.left, HEADER]


def draw_slice(tomogram: Tomogram, z: int, found: Picks, truth: Picks | None, matching: Matching | None) -> "Figure":
    """Picture of the slice with the index z.

    A particle is the circle in which the slice cuts its sphere, in the colour of its type: solid if found, dashed if
    missed. A plus is a true centre, a dot a found one, a cross a false positive. Without truth and `matching`, which is
    that of the found and the true picks, everything found is a dot.
    """
    figure, layout, paper, axes = show_image(tomogram.data[z])
    counts = _draw_particles(axes, layout, tomogram.voxel_angstrom, z * tomogram.voxel_angstrom, found, truth, matching)
    draw_scale_bar(axes, layout, tomogram.voxel_angstrom)
    _draw_header(paper, tomogram, z, counts)
    draw_legend(paper, layout, labelled=truth is not None)
    return figure


def show_image(image: NDArray[np.float32]) -> "tuple[Figure, Layout, Axes, Axes]":
    """A figure that shows a `(y, x)` image, where things are on it, and axes in pixels: of all of it, of the image."""
    gray = to_gray(image)
    layout = Layout(rows=gray.shape[0], columns=gray.shape[1])
    figure = new_figure(WIDTH, layout.height, DARK)
    paper = pixel_axes(figure, layout, (0, WIDTH), (layout.height, 0))
    axes = pixel_axes(figure, layout, (layout.left, layout.right), (layout.bottom, HEADER))
    extent = (layout.left, layout.right, layout.bottom, HEADER)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased", aspect="auto")
    return figure, layout, paper, axes


def cut_radius(picks: Picks, z_angstrom: float) -> NDArray[np.float64]:
    """`(n,)` radii in Å of the circles in which the plane at z cuts the particles' spheres; NaN where it passes by."""
    radius = np.array([particle.radius_angstrom for particle in PARTICLES])[picks.label]
    square = radius**2 - (picks.position_zyx_angstrom[:, 0] - z_angstrom) ** 2
    return np.sqrt(np.where(square > 0, square, np.nan))


def to_gray(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`(y, x)` from 0 to 255 of a slice: its densities between `PERCENTILES`; mid-grey if they are all equal."""
    low, high = np.percentile(density, PERCENTILES)
    if not high > low:
        return np.full(density.shape, 128, dtype=np.uint8)
    gray: NDArray[np.uint8] = np.rint(np.clip((density - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return gray


def pixel_axes(figure: "Figure", layout: Layout, x: tuple[float, float], y: tuple[float, float]) -> "Axes":
    """Axes over a part of the figure, from left to right and from below to above, whose unit is the figure's pixel."""
    width, height = WIDTH, layout.height
    axes = figure.add_axes((x[0] / width, 1 - y[0] / height, (x[1] - x[0]) / width, (y[0] - y[1]) / height))
    axes.set_axis_off()
    axes.set(xlim=x, ylim=y)
    return axes


def _draw_particles(
    axes: "Axes",
    layout: Layout,
    voxel_angstrom: float,
    z_angstrom: float,
    found: Picks,
    truth: Picks | None,
    matching: Matching | None,
) -> dict[str, int]:
    """Draw all particles that the slice cuts; how many they are, by what is said of them."""
    scale = layout.pixels_per_voxel / voxel_angstrom

    def cut(picks: Picks) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
        """Pixels and colours of what the slice cuts."""
        radius = cut_radius(picks, z_angstrom)
        picks, radius = picks.select(np.isfinite(radius)), radius[np.isfinite(radius)]
        colours = [DARK.particles[label] for label in picks.label]
        return layout.to_pixels(picks.position_zyx_angstrom, voxel_angstrom), radius * scale, colours

    if truth is None or matching is None:
        position, radius, colours = cut(found)
        rings(axes, position, radius, colours)
        dots(axes, position, colours)
        return {"found": len(position)}
    missed, missed_radius, missed_colours = cut(truth.select(~matching.truth_is_hit))
    false, false_radius, false_colours = cut(found.select(~matching.found_is_hit))
    hit, hit_radius, hit_colours = cut(found.select(matching.found_is_hit))
    rings(axes, missed, missed_radius, missed_colours, dashed=True)
    rings(axes, false, false_radius, false_colours)
    rings(axes, hit, hit_radius, hit_colours)
    pluses(axes, cut(truth)[0])
    dots(axes, hit, hit_colours)
    crosses(axes, false)
    return {"hit": len(hit), "missed": len(missed), "false": len(false)}


def draw_scale_bar(axes: "Axes", layout: Layout, voxel_angstrom: float) -> None:
    """White bar with its length at the lower left of the slice, if any of the lengths fits."""
    pixels_per_nm = 10 / voxel_angstrom * layout.pixels_per_voxel
    fitting = [length for length in SCALE_BARS_NM if length * pixels_per_nm <= (layout.right - layout.left) / 4]
    if not fitting:
        return
    left, y, length = layout.left + MARGIN, layout.bottom - MARGIN, fitting[-1] * pixels_per_nm
    strokes(axes, np.array([[left + length / 2, y]]), np.array([[length / 2, 0.0]]), DARK.text, width=6.0)
    write(axes, left + length / 2, y - 20, f"{fitting[-1]} nm", size=20, align="center", halo=True)


def _draw_header(paper: "Axes", tomogram: Tomogram, z: int, counts: dict[str, int]) -> None:
    """Name and slice at the left, what is seen at the right."""
    y = HEADER / 2
    place = f"slice {tomogram.slice_in_file(z)} (the first is 0)   z = {z * tomogram.voxel_angstrom / 10:.1f} nm"
    write(paper, MARGIN, y, fit_text(tomogram.name, 24), size=26, bold=True)
    write(paper, WIDTH / 2, y, place, size=20, colour=DARK.muted, align="center")
    said = "   ".join(f"{number} {what}" for what, number in counts.items())
    write(paper, WIDTH - MARGIN, y, said, size=22, align="right")


def draw_legend(paper: "Axes", layout: Layout, *, labelled: bool) -> None:
    """Two rows below the slice: the types by colour, then what the marks mean."""
    top, row, column, radius = layout.bottom + 34, 44, 252, np.array([11.0])
    for label, name in enumerate(PARTICLE_NAMES):
        place = np.array([[MARGIN + 12 + column * (label % 3), top + row * (label // 3)]])
        rings(paper, place, radius, [DARK.particles[label]])
        write(paper, place[0, 0] + 24, place[0, 1], name)
    from_left = MARGIN + 12 + 3 * column + 40
    places = np.array([[[from_left + 230 * i, top + row * j]] for j in range(2) for i in range(2)])
    gray = [DARK.muted]
    if not labelled:
        rings(paper, places[0], radius, gray)
        dots(paper, places[0], gray)
        write(paper, places[0, 0, 0] + 24, top, "found")
        return
    rings(paper, places[0], radius, gray)
    dots(paper, places[0], gray)
    rings(paper, places[1], radius, gray, dashed=True)
    rings(paper, places[2], radius, gray)
    crosses(paper, places[2])
    pluses(paper, places[3])
    for place, text in zip(places[:, 0], ("hit", "missed", "false positive", "true centre"), strict=True):
        write(paper, place[0] + 24, place[1], text)
