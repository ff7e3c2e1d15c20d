"""The marks of the pictures of slices, drawn on axes whose unit is the pixel.

Positions are `(n, 2)` xy, lengths are pixels, colours are one for each position, as `#rrggbb`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.report.style import DARK, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.text import Text

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

    circles = [Circle((x, y), 1.4 * LINE) for x, y in position.tolist()]
    _add(axes, PatchCollection(circles, facecolors=list(colours), linewidths=0))


def pluses(axes: "Axes", position: NDArray[np.float64]) -> None:
    """True centres."""
    _strokes(axes, position, 8.0 * np.eye(2), DARK.text)


def crosses(axes: "Axes", position: NDArray[np.float64]) -> None:
    """Centres of false positives."""
    _strokes(axes, position, 8.0 * np.array([[1.0, 1.0], [1.0, -1.0]]), DARK.wrong)


def write(axes: "Axes", x: float, y: float, text: str, *, size: float = 20, colour: str = DARK.text, align: str = "left") -> "Text":
    """One line of text whose middle is at the height y, of a size in pixels; taken as it is, never as a formula."""
    return axes.text(
        x, y, text, fontsize=points(size), color=colour, ha=align, va="center_baseline", parse_math=False, clip_on=True
    )


def _strokes(axes: "Axes", position: NDArray[np.float64], half: NDArray[np.float64], colour: str) -> None:
    """Lines through each position, from its difference with each of `(k, 2)` vectors to its sum with them."""
    from matplotlib.collections import LineCollection

    middle = position[:, None]  # (n, 1, xy)
    ends = np.stack([middle - half, middle + half], axis=2)  # (n, k, end, xy)
    _add(axes, LineCollection(list(ends.reshape(-1, 2, 2)), colors=colour, linewidths=points(1.15 * LINE)))


def _add(axes: "Axes", marks: "Collection") -> None:
    """Add marks with a halo to axes whose limits stay as they are."""
    from matplotlib.patheffects import withStroke

    # a width of 0 is that of filled marks, whose halo is an edge around them
    width = max(float(marks.get_linewidth()[0]), 0.0) + points(2.6)
    marks.set_path_effects([withStroke(linewidth=width, foreground=HALO)])
    axes.add_collection(marks, autolim=False)
