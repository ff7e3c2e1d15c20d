"""The tables of the page, as markup."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.metric import BETA, OF_TYPES_PRESENT, Score
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.report.counts import RunCounts
from kaggle_cryoet.report.markup import Markup, tag

Counts = NDArray[np.int64]
"""`(6,)` numbers of particles, by type."""

SCORE_COLUMNS = {
    "P": "Predicted: particles found",
    "T": "True: particles there are",
    "Hit": "True particles with a found one of their type within half their radius",
    "Miss": "True particles without",
    "FP": "False positives: found particles less hits",
    "Precision": "Hits among found particles",
    "Recall": "Hits among true particles",
    f"F-beta {BETA:g}": f"Mean of precision and recall in which recall counts {BETA:g} times as much",
    "Weight": "Weight in the score",
}
"""Heads of the score table and what they mean."""


def score_table(score: Score) -> Markup:
    """The table of `Score.format_table`, with bars behind the shares."""
    head = [tag("th", "particle"), *(tag("th", tag("abbr", name, title=said)) for name, said in SCORE_COLUMNS.items())]
    rows = []
    for label, (name, row) in enumerate(score.particles.items()):
        counts = (row.predicted, row.true, row.hit, row.miss, row.fp)
        shares = (row.precision, row.recall, row.fbeta)
        cells = [
            _particle_head(label, name),
            *(tag("td", f"{count:,}") for count in counts),
            *(tag("td", f"{share:.4f}", class_="bar", style=f"--share: {min(share, 1):.4f}") for share in shares),
            tag("td", f"{row.weight:g}"),
        ]
        rows.append(tag("tr", *cells))
    final = {"score": score.score}
    if score.of_types_present is not None:
        final = {OF_TYPES_PRESENT: score.of_types_present, **final}
    sums = [
        tag("tr", tag("th", name, colspan=8), tag("td", f"{value:.6f}"), tag("td", "")) for name, value in final.items()
    ]
    return _table(head, rows, sums)


def counts_table(runs: Sequence[RunCounts]) -> Markup:
    """What was found in each tomogram, and in all; with truth, hits of true particles and false positives."""
    timed = any(run.seconds is not None for run in runs)
    heads = ["tomogram", *PARTICLE_NAMES, "all", *(["seconds"] if timed else [])]
    rows = []
    for run in runs:
        cells = _count_cells(run)
        if timed:
            cells.append(tag("td", "" if run.seconds is None else f"{run.seconds:.1f}"))
        rows.append(tag("tr", tag("th", run.name, scope="row"), *cells))
    sums = [tag("tr", tag("th", "all"), *_count_cells(totals(runs)), *([tag("td", "")] if timed else []))]
    return _table([tag("th", head) for head in heads], rows, sums if len(runs) > 1 else [])


def totals(runs: Sequence[RunCounts]) -> RunCounts:
    """Counts of all runs together; true ones, hits and false positives if all of them have truth."""

    def total(parts: Sequence[Counts]) -> Counts:
        return sum(parts, np.zeros(len(PARTICLE_NAMES), dtype=np.int64))

    found = total([run.found for run in runs])
    true, hit, false = (
        [part for part in parts if part is not None]
        for parts in ([run.true for run in runs], [run.hit for run in runs], [run.false for run in runs])
    )
    if not runs or len(true) < len(runs):
        return RunCounts(name="all", found=found, true=None, hit=None, false=None, seconds=None)
    return RunCounts(name="all", found=found, true=total(true), hit=total(hit), false=total(false), seconds=None)


def _count_cells(run: RunCounts) -> list[Markup]:
    """A cell for each particle type and one for all."""
    if run.true is None or run.hit is None or run.false is None:
        return [tag("td", f"{number:,}") for number in (*run.found, run.found.sum())]
    cells = []
    of_types_and_all = ((*part, part.sum()) for part in (run.false, run.true, run.hit))
    for n_false, n_true, n_hit in zip(*of_types_and_all, strict=True):
        wrong = tag("small", f"{n_false:+,}", class_="wrong") if n_false else ""
        cells.append(tag("td", f"{n_hit:,}", tag("small", f" / {n_true:,}"), wrong))
    return cells


def failures_table(failed: Mapping[str, str]) -> Markup:
    """The tomograms that could not be picked, and why."""
    rows = [tag("tr", tag("td", run), tag("td", reason)) for run, reason in failed.items()]
    return tag("div", tag("table", tag("tbody", *rows), class_="words"), class_="box alert")


def settings_table(settings: Mapping[str, object]) -> Markup:
    """Names and values as they are."""
    rows = [tag("tr", tag("td", name), tag("td", tag("code", str(value)))) for name, value in settings.items()]
    return tag("div", tag("table", tag("tbody", *rows), class_="words"), class_="box")


def _particle_head(label: int, name: str) -> Markup:
    """Name of a particle type behind a ring of its colour."""
    return tag("th", tag("span", class_="dot", style=f"--colour: var(--particle-{label})"), name, scope="row")


def _table(head: Sequence[Markup], body: Sequence[Markup], foot: Sequence[Markup]) -> Markup:
    parts = [tag("thead", tag("tr", *head)), tag("tbody", *body), *([tag("tfoot", *foot)] if foot else [])]
    return tag("div", tag("table", *parts), class_="box")
