"""Plots of a training: its loss and score, and Dice and F-beta of each particle type, over the epochs."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.report.style import LIGHT, Theme, dress, new_figure
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (1480, 660)
"""Width and height in pixels."""
Rows = Sequence[Mapping[str, float]]
"""What was logged, in its order: epoch, and one or more of loss, score, `fbeta_<particle>`, `dice_<particle>`."""


def read_log(path: str | Path) -> list[dict[str, float]]:
    """Rows of the log of a training, without empty fields.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    try:
        with Path(path).open(newline="", encoding="utf8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder without the log of a training") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a log of a training ({error})") from None


def draw_training_curves(rows: Rows, theme: Theme = LIGHT) -> "Figure":
    """Eight panels: the loss, the score, and each particle type."""
    figure = new_figure(*SIZE, theme)
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.09, top=0.93, wspace=0.2, hspace=0.42)
    titles = ("loss", "score (an upper bound)", *PARTICLE_NAMES)
    for number, title in enumerate(titles):
        axes = figure.add_subplot(2, 4, number + 1)
        dress(axes, theme, title=title)
        axes.grid(axis="y", color=theme.rule, linewidth=0.7)
        axes.set_xlabel("epochs")
        if number < 2:
            _draw(axes, rows, title.split()[0], theme.accent, "-", "")
        else:
            _draw(axes, rows, f"fbeta_{title}", theme.particles[number - 2], "-", "F-beta")
            _draw(axes, rows, f"dice_{title}", theme.muted, "--", "Dice")
            if axes.get_lines():
                axes.legend(frameon=False, fontsize=8, labelcolor=theme.text, loc="best")
        if number:
            axes.set_ylim(0, 1.02)
    return figure


def save_training_curves(rows: Rows, path: str | Path) -> None:
    """Draw into a PNG; what is there stays until the new one is whole."""
    with whole_file(Path(path)) as partial:
        draw_training_curves(rows).savefig(partial, format="png")


def _draw(axes: "Axes", rows: Rows, name: str, colour: str, style: str, label: str) -> None:
    """One curve; a point where there is but one."""
    places = [row["epoch"] + 1 for row in rows if name in row]
    values = [row[name] for row in rows if name in row]
    if places:
        marker = "o" if len(places) == 1 else ""
        axes.plot(
            places, values, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=4, label=label
        )
