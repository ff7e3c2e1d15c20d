"""The picture of the detections in the image of a single slice."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.report.marks import crosses, dots, pluses, rings, write
from kaggle_cryoet.report.slice_count import SliceCount
from kaggle_cryoet.report.slice_picture import (
    HEADER,
    MARGIN,
    WIDTH,
    Layout,
    cut_radius,
    draw_legend,
    draw_scale_bar,
    show_image,
)
from kaggle_cryoet.report.style import DARK, fit_text
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONFIDENCE_PIXELS = 13
"""Size of the confidences above the circles."""


def draw_look(
    image: NDArray[np.float32],
    count: SliceCount,
    radius_angstrom: NDArray[np.float64],
    *,
    voxel_angstrom: float,
    name: str,
    output: Path,
) -> None:
    """Write a picture of the `(y, x)` image with its detections and, if there are picks, what they are counted against.

    A detection is a circle with the `(n,)` radius of its box and its confidence; a cross in it marks a false one, a dot
    any other. A plus is the centre of a particle that the slice shows, a dashed circle one that is missed.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    figure, layout, paper, axes = show_image(image)
    numbers = {"detected": len(count.found)}
    if count.shown is not None and count.shown_is_hit is not None:
        _draw_shown(axes, layout, count, voxel_angstrom)
        hit, false = int(count.shown_is_hit.sum()), int(count.found_is_false.sum())
        numbers |= {"hit": hit, "missed": len(count.shown) - hit, "false": false}
    _draw_found(axes, layout, count, radius_angstrom, voxel_angstrom)
    draw_scale_bar(axes, layout, voxel_angstrom)
    write(paper, MARGIN, HEADER / 2, fit_text(name, 32), size=26, bold=True)
    said = "   ".join(f"{number} {what}" for what, number in numbers.items())
    write(paper, WIDTH - MARGIN, HEADER / 2, said, size=22, align="right")
    draw_legend(paper, layout, labelled=count.shown is not None)
    with whole_file(output) as partial:
        figure.savefig(partial, format="png", dpi="figure", pil_kwargs={"compress_level": 3})


def _draw_shown(axes: "Axes", layout: Layout, count: SliceCount, voxel_angstrom: float) -> None:
    """True centres, and circles in which the slice cuts those that are missed."""
    if count.shown is None or count.shown_is_hit is None:
        return
    missed = count.shown.select(~count.shown_is_hit)
    radius = cut_radius(missed, count.z_angstrom) * layout.pixels_per_voxel / voxel_angstrom
    colours = [DARK.particles[label] for label in missed.label]
    rings(axes, layout.to_pixels(missed.position_zyx_angstrom, voxel_angstrom), radius, colours, dashed=True)
    pluses(axes, layout.to_pixels(count.shown.position_zyx_angstrom, voxel_angstrom))


def _draw_found(
    axes: "Axes", layout: Layout, count: SliceCount, radius_angstrom: NDArray[np.float64], voxel_angstrom: float
) -> None:
    """Detections with their confidences."""
    place = layout.to_pixels(count.found.position_zyx_angstrom, voxel_angstrom)
    radius = radius_angstrom * layout.pixels_per_voxel / voxel_angstrom
    colours = [DARK.particles[label] for label in count.found.label]
    false = count.found_is_false
    rings(axes, place, radius, colours)
    dots(axes, place[~false], [colours[number] for number in np.flatnonzero(~false)])
    crosses(axes, place[false])
    for (x, y), above, confidence, colour in zip(place, radius, count.found.score, colours, strict=True):
        text = f"{confidence:.2f}".removeprefix("0")
        write(axes, x, y - above - 9, text, size=CONFIDENCE_PIXELS, colour=colour, align="center", halo=True)
