"""Colours of the pictures and of the page, the same everywhere, told apart by colour-blind readers too."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 128
"""Of figures: a power of two, so that a size in pixels survives the way through inches."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours for one kind of background, as `#rrggbb`."""

    name: str
    """`light` or `dark`, as in the style sheets' `prefers-color-scheme`."""
    background: str
    """Of the page."""
    surface: str
    """Of tables and figures on it."""
    text: str
    """Of what is to be read."""
    muted: str
    """Of what explains it."""
    faint: str
    """Of zeros."""
    rule: str
    """Of lines that divide."""
    accent: str
    """Of bars and of full cells."""
    wrong: str
    """Of false positives and failures."""
    particles: tuple[str, str, str, str, str, str]
    """In the order of `PARTICLES`; the type that is not scored is the grey one."""


# The particles' hues are those of Okabe and Ito, "Color Universal Design" (2008), lightened on dark, darkened on light.
LIGHT = Theme(
    name="light",
    background="#f6f7f9",
    surface="#ffffff",
    text="#1b1f24",
    muted="#5b6470",
    faint="#b4bac2",
    rule="#dde1e6",
    accent="#2c6aa6",
    wrong="#c0390b",
    particles=("#c77700", "#7b828c", "#2b8cc9", "#00805d", "#a08f00", "#b2548c"),
)
DARK = Theme(
    name="dark",
    background="#111418",
    surface="#191d23",
    text="#e8eaed",
    muted="#9aa4b0",
    faint="#525b66",
    rule="#2d333b",
    accent="#5b9bd8",
    wrong="#ff6a45",
    particles=("#ffa62b", "#eef0f2", "#5cc1ff", "#2fd6a2", "#f5e94b", "#ee8cc6"),
)


def new_figure(width: int, height: int, theme: Theme) -> "Figure":
    """Empty figure of a size in pixels that knows nothing of pyplot, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    figure.set_facecolor(theme.surface)
    FigureCanvasAgg(figure)
    return figure


def check_picture(path: Path, *, others: tuple[str, ...] = ()) -> None:
    """Raise an `InputError` unless a name ends in `.png`, or in one of `others`, in capitals or not."""
    endings = (".png", *others)
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: expected a name that ends in {' or '.join(endings)}")


def points(pixels: float) -> float:
    """Typographic points, the unit of fonts and lines, of a length in pixels."""
    return pixels * 72 / PIXELS_PER_INCH


def file_stem(name: str) -> str:
    """A name as part of a file's, of common letters and not too long."""
    return re.sub("[^A-Za-z0-9-]+", "_", name)[:80]


def fit_text(text: str, most: int) -> str:
    """At most `most` characters of a name, for a picture, more of its end than of its beginning, rare ones as `?`."""
    head = (most - 1) // 3  # names differ at their ends
    kept = text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"
    return "".join(c if c == "…" or (c.isprintable() and ord(c) < 0x250) else "?" for c in kept)


def dress(axes: "Axes", theme: Theme, *, title: str = "") -> None:
    """Give axes the colours of a theme, without the upper and the right spine."""
    axes.set_facecolor(theme.surface)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=theme.text)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=theme.muted, fontsize=9)
    axes.yaxis.label.set(color=theme.muted, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.rule)
