"""Curves of the training of a detector over its epochs: precision, recall, mAP, and losses."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.report.style import LIGHT, Theme, check_picture, dress, new_figure
from kaggle_cryoet.report.training_curves import Rows, read_log
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (1280, 520)
"""Width and height in pixels."""
METRICS = {
    "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
    "mAP50": "metrics/mAP50(B)",
    "mAP50-95": "metrics/mAP50-95(B)",
}
"""Titles of panels, and the columns that ultralytics gives these values."""
LOSSES = ("box", "cls", "dfl")
STYLES = ("-", "--", ":")
MARKERS = ("o", "s", "^")
"""Of the losses, where there is but one epoch."""


def read_results(path: str | Path) -> list[dict[str, float]]:
    """Rows of ultralytics' `results.csv`, one for each epoch; of an epoch that was begun twice the later one.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or lacks a column.
    """
    rows = read_log(path)
    wanted = ["epoch", *METRICS.values()]
    if not rows:
        raise InputError(f"{path}: has no row; expected the results.csv of a training")
    missing = [name for name in wanted if name not in rows[0]]
    if missing:
        raise InputError(f"{path}: lacks the column {missing[0]}; expected the results.csv of a training")
    by_epoch = {row["epoch"]: row for row in rows}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def draw_detector_curves(rows: Rows, theme: Theme = LIGHT) -> "Figure":
    """Six panels: the four metrics on the validation slices, then the losses of training and of validation."""
    figure = new_figure(*SIZE, theme)
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.11, top=0.93, wspace=0.2, hspace=0.5)
    places = {name: place for place, name in zip((1, 2, 4, 5), METRICS, strict=True)}
    for name, place in places.items():
        axes = figure.add_subplot(2, 3, place)
        dress(axes, theme, title=name)
        axes.set(ylim=(0, 1.02), xlabel="epochs")
        _plot(axes, rows, METRICS[name], {"color": theme.accent})
    for place, part in ((3, "train"), (6, "val")):
        axes = figure.add_subplot(2, 3, place)
        dress(axes, theme, title=f"losses, {'training' if part == 'train' else 'validation'}")
        axes.set_xlabel("epochs")
        for loss, style, marker in zip(LOSSES, STYLES, MARKERS, strict=True):
            line = {"color": theme.text, "linestyle": style, "label": loss}
            _plot(axes, rows, f"{part}/{loss}_loss", line, marker=marker)
        if axes.get_lines():
            axes.legend(frameon=False, fontsize=8, labelcolor=theme.text, loc="best")
    return figure


def save_detector_curves(results: str | Path, output: str | Path) -> None:
    """Draw a `results.csv` into a PNG.

    Raises
    ------
    InputError
        If the one cannot be read or the other not be written.
    """
    check_picture(Path(output))
    figure = draw_detector_curves(read_results(results))
    with whole_file(Path(output)) as partial:
        figure.savefig(partial, format="png", dpi="figure")


def _plot(axes: "Axes", rows: Rows, column: str, line: Mapping[str, Any], *, marker: str = "o") -> None:
    """One curve; a point where there is but one."""
    from matplotlib.ticker import MaxNLocator

    shown = [row for row in rows if column in row]
    if shown:
        marker = marker if len(shown) == 1 else ""
        axes.plot([row["epoch"] for row in shown], [row[column] for row in shown], marker=marker, **line)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
