"""The parts of the page, as markup."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import kaggle_cryoet
from kaggle_cryoet.metric import OF_TYPES_PRESENT, Score
from kaggle_cryoet.report.counts import RunCounts
from kaggle_cryoet.report.markup import Markup, tag
from kaggle_cryoet.report.stylesheet import stylesheet
from kaggle_cryoet.report.tables import counts_table, failures_table, score_table, settings_table, totals


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image beside the page."""

    path: str
    """From the page, with `/`."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    alternative: str
    """What it shows, for those who do not see it."""


def page(heading: str, parts: Sequence[Markup]) -> str:
    """The whole page out of its parts."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", heading),
        tag("style", Markup(stylesheet())),
    )
    body = tag("body", tag("main", *parts))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def title(runs: Sequence[RunCounts]) -> str:
    """What the page is about."""
    return f"Particles in {runs[0].name}" if len(runs) == 1 else f"Particles in {len(runs):,} tomograms"


def header(runs: Sequence[RunCounts], score: Score | None, failed: Mapping[str, str]) -> Markup:
    """Title and the numbers to see first."""
    every = totals(runs)
    tiles = [_tile(f"{score.score:.4f}", "score", "main")] if score else []
    if score and score.of_types_present is not None:
        tiles.append(_tile(f"{score.of_types_present:.4f}", f"score {OF_TYPES_PRESENT}"))
    tiles.append(_tile(f"{every.found.sum():,}", "particles found"))
    if every.true is not None and every.hit is not None:
        tiles.append(_tile(f"{every.hit.sum():,}", f"hits of {every.true.sum():,} true particles"))
    tiles.append(_tile(f"{len(runs):,}", "tomogram" if len(runs) == 1 else "tomograms"))
    if failed:
        tiles.append(_tile(f"{len(failed):,}", "failed", "wrong"))
    brand = tag("div", f"kaggle-cryoet {kaggle_cryoet.__version__}", class_="muted")
    return tag("header", brand, tag("h1", title(runs)), tag("div", *tiles, class_="tiles"))


def _tile(number: str, what: str, kind: str = "") -> Markup:
    return tag("div", tag("b", number), tag("span", what), class_=f"tile {kind}".strip())


def failed_section(failed: Mapping[str, str], *, scored: bool) -> Markup:
    """The tomograms that could not be picked, if there are any."""
    if not failed:
        return Markup()
    said = "Nothing was picked in these tomograms, and "
    said += "what is in them counts as missed in the score and its curves, " if scored else ""
    said += "but nowhere else on this page." if scored else "nothing counts them on this page."
    return tag("section", tag("h2", "Failed"), tag("p", said, class_="note"), failures_table(failed), id="failed")


def score_section(score: Score | None) -> Markup:
    """The table of the score, if there is one."""
    if score is None:
        return Markup()
    said = (
        "A found particle hits a true one of its type if it is within half the type's radius. The score is the mean of "
        "F-beta over the types by their weights; a type of weight 0 does not count."
    )
    return tag("section", tag("h2", "Score"), tag("p", said, class_="note"), score_table(score), id="score")


def counts_section(runs: Sequence[RunCounts], plots: Sequence[Markup]) -> Markup:
    """Counts of each tomogram, if there is one."""
    if not runs:
        return Markup()
    said = "How many particles of each type were found in each tomogram."
    if any(run.true is not None for run in runs):
        said = "Hits and true particles of each type in each tomogram; behind them, with a sign, the false positives."
    return tag(
        "section", tag("h2", "Tomograms"), tag("p", said, class_="note"), counts_table(runs), *plots, id="tomograms"
    )


def plots_section(plots: Sequence[Markup]) -> Markup:
    """Plots against the truth, if there are any."""
    return tag("section", tag("h2", "Where it errs"), *plots, id="errors") if plots else Markup()


def plot(light: Picture, dark: Picture, caption: str) -> Markup:
    """A plot that follows the reader's light or dark screen."""
    source = tag("source", srcset=quote(dark.path), media="(prefers-color-scheme: dark)")
    return tag("figure", tag("picture", source, _image(light)), tag("figcaption", caption), class_="box")


def slices_section(galleries: Sequence[Markup], n_runs: int, *, labelled: bool) -> Markup:
    """The pictures of all tomograms that were drawn, if there are any."""
    if not galleries:
        return Markup()
    said = "A circle is where the slice cuts a particle's sphere; its colour is the particle's type. "
    if labelled:
        said += "Solid circles were found, dashed ones missed; crosses are false positives, pluses true centres. "
    said += "x runs to the right and y downwards; a click shows a picture in full size."
    if len(galleries) < n_runs:
        said += f" Drawn are the first {len(galleries)} of {n_runs:,} tomograms."
    return tag("section", tag("h2", "Slices"), tag("p", said, class_="note"), *galleries, id="slices")


def gallery(run: RunCounts, pictures: Sequence[Picture], *, unfolded: bool, instead: str = "") -> Markup:
    """The pictures of one tomogram under its name, to be folded; each leads to its full size.

    Or `instead` of them why there are none.
    """
    said = f"{run.found.sum():,} found"
    if run.true is not None and run.hit is not None and run.false is not None:
        said = f"{run.hit.sum():,} hits of {run.true.sum():,} true, {run.false.sum():,} false positives"
    images = [tag("a", _image(picture), href=quote(picture.path)) for picture in pictures]
    if instead:
        images = [tag("p", f"No pictures: {instead}", class_="note")]
    summary = tag("summary", run.name, tag("span", said))
    return tag("details", summary, tag("div", *images, class_="slices"), open="" if unfolded else None)


def reproduce_section(settings: Mapping[str, object], command: str) -> Markup:
    """How to come to the same again: the command line and the settings, if they are known, and the versions."""
    versions = f"kaggle-cryoet {kaggle_cryoet.__version__}, Python {platform.python_version()}, {platform.system()}"
    return tag(
        "section",
        tag("h2", "How to reproduce this"),
        tag("pre", command) if command else "",
        tag("p", f"Made with {versions}.", class_="note"),
        settings_table(settings) if settings else "",
        id="reproduce",
    )


def footer() -> Markup:
    """When the page was written."""
    return tag("footer", f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.")


def _image(picture: Picture) -> Markup:
    return tag(
        "img",
        src=quote(picture.path),
        alt=picture.alternative,
        width=picture.width,
        height=picture.height,
        loading="lazy",
    )
