"""The marks of the pictures of slices, drawn on axes whose unit is the pixel.

Positions are `(n, 2)` xy, lengths are pixels, colours are one for each position, as `#rrggbb`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.report.style import DARK, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection

LINE = 2.8
"""Width of lines, in pixels."""
HALO = "#07090b"
"""Thin edge around every mark, which keeps it apart from bright densities."""
DASHES = (3.0, 1.8)
"""Dash and gap of what was missed, in widths of the line."""


def rings(
    axes: "Axes",
    position: NDArray[np.float64],
    radius: NDArray[np.float64],
    colours: Sequence[str],
    *,
    dashed: bool = False,
) -> None:
    """Circles with `(n,)` radii: solid for what was found, dashed for what was missed."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    circles = PatchCollection(
        [Circle((x, y), r) for (x, y), r in zip(position.tolist(), radius.tolist(), strict=True)],
        facecolors="none",
        edgecolors=list(colours),
        linewidths=points(LINE),
        linestyles=[(0, DASHES) if dashed else "solid"],
    )
    _add(axes, circles)


def dots(axes: "Axes", position: NDArray[np.float64], colours: Sequence[str]) -> None:
    """Centres of what was found."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    circles = [Circle((x, y), 1.2 * LINE) for x, y in position.tolist()]
    _add(axes, PatchCollection(circles, facecolors=list(colours), linewidths=0))


def pluses(axes: "Axes", position: NDArray[np.float64]) -> None:
    """True centres."""
    strokes(axes, position, 7.5 * np.eye(2), DARK.text)


def crosses(axes: "Axes", position: NDArray[np.float64]) -> None:
    """Centres of false positives."""
    strokes(axes, position, 7.5 * np.array([[1.0, 1.0], [1.0, -1.0]]), DARK.wrong)


def write(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    *,
    size: float = 20,
    colour: str = DARK.text,
    align: Literal["left", "center", "right"] = "left",
    bold: bool = False,
    halo: bool = False,
) -> None:
    """One line of text whose middle is at the height y, of a size in pixels; taken as it is, never as a formula."""
    from matplotlib.patheffects import withStroke

    weight = "bold" if bold else "normal"
    written = axes.text(
        x, y, text, fontsize=points(size), color=colour, ha=align, va="center", fontweight=weight, parse_math=False
    )
    if halo:
        written.set_path_effects([withStroke(linewidth=points(3.0), foreground=HALO)])


def strokes(
    axes: "Axes",
    position: NDArray[np.float64],
    half: NDArray[np.float64],
    colour: str,
    *,
    width: float = LINE,
) -> None:
    """At each position the straight lines to both sides of it by each of `(k, 2)` vectors."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    ends = np.stack([-half, half], axis=1).reshape(-1, 2)  # (2 k, xy)
    codes = [Path.MOVETO, Path.LINETO] * len(half)
    # one path for all lines of a mark: its halo never covers one of them
    marks = [Path(middle + ends, codes) for middle in position]
    _add(axes, PathCollection(marks, facecolors="none", edgecolors=colour, linewidths=points(width)))


def _add(axes: "Axes", marks: "Collection") -> None:
    """Add marks with a halo above all that was added before, to axes whose limits stay as they are."""
    from matplotlib.patheffects import withStroke

    width = float(np.max(marks.get_linewidth())) + points(2.6)
    marks.set_path_effects([withStroke(linewidth=width, foreground=HALO)])
    marks.set_zorder(3)  # patches and lines have different ones otherwise
    axes.add_collection(marks, autolim=False)
