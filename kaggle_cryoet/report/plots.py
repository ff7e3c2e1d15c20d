"""Plots of a prediction: which types are taken for which, scores against thresholds, and counts of each tomogram."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.metric import BETA, Score
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.report.counts import RunCounts
from kaggle_cryoet.report.curves import ThresholdCurve
from kaggle_cryoet.report.style import Theme, dress, fit_text, new_figure, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (1280, 660)
"""Width and height in pixels of figures with a panel for each particle type."""
SINGLE = (1000, 640)
"""Width and height in pixels of other figures."""
MARKERS = "osD^vX"
"""Of the particle types, to tell them apart without colour."""
PRECISION: dict[str, Any] = {"linewidth": 1.4, "linestyle": (0, (1, 1.2))}
RECALL: dict[str, Any] = {"linewidth": 1.4, "linestyle": (0, (4, 2))}
FBETA: dict[str, Any] = {"linewidth": 2.6}
BAR: dict[str, Any] = {"linewidth": 7}
FALSE: dict[str, Any] = {"linewidth": 7, "alpha": 0.35}
"""Lines of the plots and their legends."""
FBETA_LINES = (0.2, 0.4, 0.6, 0.8, 0.9)
"""For which lines of equal F-beta are drawn."""
MOST_NAMED_RUNS = 10
"""With more tomograms than this, the axis of the counts has no room for their names."""


def draw_confusion_matrix(matrix: NDArray[np.int64], theme: Theme, *, shares: bool = False) -> "Figure":
    """Picture of a `(7, 7)` matrix of `matching.confusion_matrix`; a cell is as full as its share of its row.

    With `shares` that is also what is written in it; otherwise it is the number.
    """
    from matplotlib.colors import LinearSegmentedColormap

    n = len(PARTICLE_NAMES)
    figure = new_figure(*SINGLE, theme)
    axes = figure.add_axes((0.19, 0.03, 0.72, 0.75))
    dress(axes, theme)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("share", [theme.surface, theme.accent])
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for true, found in np.ndindex(n + 1, n + 1):
        if true == found == n:
            continue  # what is not there and was not found cannot be counted
        number = int(matrix[true, found])
        colour = theme.surface if share[true, found] > 0.5 else theme.text if number else theme.faint
        weight = "bold" if true == found else "normal"
        said = f"{share[true, found]:.2f}" if shares and number else str(number)
        axes.text(found, true, said, ha="center", va="center", fontsize=11, fontweight=weight, color=colour)
    axes.set_xticks(range(n + 1), [*PARTICLE_NAMES, "missed"], rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(n + 1), [*PARTICLE_NAMES, "nothing there"])
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelcolor=theme.text)
    for edge in np.arange(n + 2) - 0.5:
        width = 2.0 if edge == n - 0.5 else 0.7  # sets off what is not a type
        axes.axhline(edge, color=theme.rule, linewidth=width)
        axes.axvline(edge, color=theme.rule, linewidth=width)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(-0.03, 1.03, "true ↓   found →", transform=axes.transAxes, ha="right", fontsize=9, color=theme.muted)
    return figure


def draw_threshold_curves(curves: Mapping[int, ThresholdCurve], theme: Theme) -> "Figure":
    """For each particle type precision, recall and F-beta against its threshold."""
    figure = new_figure(*PANELS, theme)
    for label, axes in enumerate(_panels(figure, theme)):
        if label not in curves:
            _leave_empty(axes, "no scores to compare, or nothing true", theme)
            continue
        curve = curves[label]
        axes.plot(curve.threshold, curve.precision, color=theme.muted, **PRECISION)
        axes.plot(curve.threshold, curve.recall, color=theme.muted, **RECALL)
        axes.plot(curve.threshold, curve.fbeta, color=theme.particles[label], **FBETA)
        best = int(np.argmax(curve.fbeta))
        down = np.floor(1e4 * curve.threshold[best]) / 1e4  # so that it still keeps what reaches it
        said = f"best {curve.fbeta[best]:.3f} at {down:.4f}"
        axes.set_title(said, loc="right", fontsize=8.5, color=theme.muted)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("threshold")
    _add_legend(figure, theme, {f"F-beta {BETA:g}": FBETA, "precision": PRECISION, "recall": RECALL})
    return figure


def draw_precision_recall(curves: Mapping[int, ThresholdCurve], score: Score, theme: Theme) -> "Figure":
    """Precision against recall of each type that there is over lines of equal F-beta; a mark is what `score` is of."""
    figure = new_figure(*SINGLE, theme)
    axes = figure.add_axes((0.08, 0.1, 0.6, 0.82))
    dress(axes, theme)
    for fbeta in FBETA_LINES:
        recall = np.linspace(BETA**2 * fbeta / (1 + BETA**2 - fbeta), 1, 100)
        axes.plot(recall, fbeta * recall / ((1 + BETA**2) * recall - BETA**2 * fbeta), color=theme.rule, linewidth=1)
        said = f"F{BETA:g} = {fbeta:g}" if fbeta == FBETA_LINES[0] else f"{fbeta:g}"
        axes.text(recall[0], 1.03, said, ha="center", fontsize=8, color=theme.muted)
    for label, (name, row) in enumerate(score.particles.items()):
        if not row.true:
            continue
        colour = theme.particles[label]
        if label in curves:
            axes.plot(curves[label].recall, curves[label].precision, color=colour, linewidth=2)
        mark: dict[str, Any] = {"marker": MARKERS[label], "markersize": 8, "markeredgecolor": theme.surface}
        axes.plot([row.recall], [row.precision], linestyle="none", color=colour, label=name, clip_on=False, **mark)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    figure.legend(loc="center left", bbox_to_anchor=(0.72, 0.5), frameon=False, fontsize=9.5, labelcolor=theme.text)
    return figure


def draw_counts(runs: Sequence[RunCounts], theme: Theme) -> "Figure":
    """For each particle type a bar per tomogram: what was found, the hits in full colour; a line is what there is."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(*PANELS, theme)
    place = np.arange(1, len(runs) + 1)
    labelled = any(run.true is not None for run in runs)
    for label, axes in enumerate(_panels(figure, theme)):
        colour = theme.particles[label]
        found = np.array([run.found[label] for run in runs])
        # without truth everything found is drawn in full colour
        sure = np.array([run.found[label] if run.hit is None else run.hit[label] for run in runs])
        true = np.array([np.nan if run.true is None else run.true[label] for run in runs])
        gap = 0.3 if len(runs) <= 100 else 0.0  # too thin to be seen
        width = (1 - gap) * points(PANELS[0] * 0.28 / len(runs))
        if labelled:
            axes.vlines(place, 0, found, color=colour, alpha=FALSE["alpha"], linewidth=width)
        axes.vlines(place, 0, sure, color=colour, linewidth=width)
        if labelled:
            axes.hlines(true, place - 0.45, place + 0.45, color=theme.text, linewidth=1.6)
        axes.set(xlim=(0.4, len(runs) + 0.6), ylim=(0, 1.08 * np.nanmax([*found, *sure, *true, 1])))
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        if len(runs) <= MOST_NAMED_RUNS:
            names = [fit_text(run.name, 12) for run in runs]
            axes.set_xticks(place, names, rotation=25, ha="right", rotation_mode="anchor", parse_math=False)
    if len(runs) <= MOST_NAMED_RUNS:
        figure.subplots_adjust(left=0.07, hspace=0.62)  # room for what the names reach
    true_line = {"color": theme.text, "linewidth": 1.6}
    entries = {"hit": BAR, "false positive": FALSE, "true": true_line} if labelled else {"found": BAR}
    _add_legend(figure, theme, entries)
    return figure


def _panels(figure: "Figure", theme: Theme) -> list["Axes"]:
    """Two rows of three axes, one for each particle type."""
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.11, top=0.87, wspace=0.16, hspace=0.5)
    panels = [figure.add_subplot(2, 3, label + 1) for label in range(len(PARTICLE_NAMES))]
    for axes, name in zip(panels, PARTICLE_NAMES, strict=True):
        dress(axes, theme, title=name)
        axes.grid(axis="y", color=theme.rule, linewidth=0.7)
        axes.set_axisbelow(True)
    return panels


def _leave_empty(axes: "Axes", why: str, theme: Theme) -> None:
    """Say in the middle of a panel why nothing is drawn in it."""
    axes.text(0.5, 0.5, why, ha="center", va="center", fontsize=9, color=theme.muted, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def _add_legend(figure: "Figure", theme: Theme, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """One legend for all panels in the upper right corner: names, and how their lines differ but for the colour."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **{"color": theme.muted, **style}) for style in entries.values()]
    figure.legend(
        handles,
        list(entries),
        loc="upper right",
        bbox_to_anchor=(0.99, 1.0),
        ncols=len(entries),
        frameon=False,
        fontsize=9,
        labelcolor=theme.text,
    )
