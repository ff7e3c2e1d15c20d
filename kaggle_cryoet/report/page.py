"""`ReportWriter`: a page that shows a prediction, built tomogram by tomogram.

The page is one HTML file without scripts that asks for nothing from a network. Its images lie beside it in `images/`
and not in it: a page with twenty tomograms would weigh tens of megabytes, browsers would read it whole before showing
a line, and each picture is of use on its own.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import Score
from kaggle_cryoet.picking.adapt import AdaptSettings, adapt
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report import sections
from kaggle_cryoet.report.confusion import confusion_of_runs
from kaggle_cryoet.report.counts import RunCounts, count_run
from kaggle_cryoet.report.curves import threshold_curves
from kaggle_cryoet.report.markup import Markup
from kaggle_cryoet.report.plots import draw_confusion_matrix, draw_counts, draw_precision_recall, draw_threshold_curves
from kaggle_cryoet.report.sections import Picture
from kaggle_cryoet.report.slice_picture import WIDTH, Layout
from kaggle_cryoet.report.slices import draw_slices
from kaggle_cryoet.report.style import DARK, LIGHT, Theme, file_stem
from kaggle_cryoet.tomogram import RunLocation, Tomogram, read_tomogram
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


class ReportWriter:
    """Writes `index.html` and `images/` into a folder; holds picks and counts, never a volume.

    Files of an earlier report in the same folder are overwritten where they have the same names.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        most_drawn: int = 20,
        slices: int = 4,
        adapt_settings: AdaptSettings | None = None,
    ) -> None:
        """Make the folder.

        Parameters
        ----------
        directory
            Where the page is written; made with the folders above it.
        most_drawn
            Pictures are drawn of so many tomograms, the first that are added.
        slices
            Number of pictures for each of them.
        adapt_settings
            With which tomograms were picked: pictures show them as networks know them, particles dark.

        Raises
        ------
        InputError
            If the folder cannot be made.
        """
        self.directory = Path(directory)
        self.most_drawn = most_drawn
        self.slices = slices
        self.adapt_settings = adapt_settings
        self._runs: list[RunCounts] = []
        self._galleries: list[Markup] = []
        self._found: dict[str, Picks] = {}
        self._truth: dict[str, Picks] = {}
        self._missed: dict[str, Picks] = {}
        try:
            (self.directory / "images").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.directory}: cannot be made: {error}") from error

    def add_tomogram(
        self,
        tomogram: Tomogram | RunLocation,
        found: Picks,
        truth: Picks | None = None,
        *,
        seconds: float | None = None,
    ) -> None:
        """Count what was found in one tomogram and draw its slices; if they cannot be drawn, the page says so.

        Parameters
        ----------
        tomogram
            The tomogram, or where it is: then it is read only if pictures are drawn of it.
        found
            What was found.
        truth
            What there is, if it is known.
        seconds
            How long it took to pick.

        Raises
        ------
        InputError
            If a tomogram of that name was added before.
        """
        name = tomogram.name
        if name in self._found:
            raise InputError(f"tomogram {name!r} was added to the report before; expected different names")
        run = count_run(name, found, truth, seconds)
        if len(self._galleries) < self.most_drawn:
            unfolded = not self._galleries
            try:
                self._galleries.append(
                    sections.gallery(run, self._draw_slices(tomogram, found, truth), unfolded=unfolded)
                )
            except InputError as error:
                logger.warning("the report is without pictures of %s: %s", name, error)
                self._galleries.append(sections.gallery(run, [], unfolded=unfolded, instead=str(error)))
        self._runs.append(run)
        self._found[name] = found
        if truth is not None:
            self._truth[name] = truth

    def add_missed(self, name: str, truth: Picks) -> None:
        """Note what is in a tomogram that could not be picked, which counts in the curves as it does in the score."""
        self._missed[name] = truth

    def finish(
        self,
        score: Score | None = None,
        failed: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        command: str = "",
    ) -> Path:
        """Draw the plots, write the page, and return its path.

        Parameters
        ----------
        score
            Of all tomograms together; None for a prediction that cannot be scored.
        failed
            Reasons by run, of those that could not be picked.
        settings
            Names and values to be shown, for instance of thresholds and weights.
        command
            Command line that does the same again.

        Raises
        ------
        InputError
            If a file cannot be written.
        """
        curves = self._draw_curves(score)
        parts = [
            sections.header(self._runs, score, failed or {}),
            sections.failed_section(failed or {}, scored=score is not None),
            sections.score_section(score),
            sections.plots_section([*self._draw_confusion(), *curves]),
            sections.counts_section(self._runs, self._draw_counts()),
            sections.slices_section(self._galleries, len(self._runs), labelled=bool(self._truth)),
            sections.reproduce_section(settings or {}, command),
            sections.footer(),
        ]
        return self._write(sections.page(sections.title(self._runs), parts))

    def _draw_slices(self, tomogram: Tomogram | RunLocation, found: Picks, truth: Picks | None) -> list[Picture]:
        """Pictures of a tomogram, in a folder of its own: names may hold what a file's name may not."""
        if isinstance(tomogram, RunLocation):
            with _nothing_said():  # what is to be said of it was said when it was picked
                volume = adapt(read_tomogram(tomogram), self.adapt_settings)
        else:
            volume = adapt(tomogram, self.adapt_settings)
        folder = f"images/{len(self._runs) + 1:03d}_{file_stem(tomogram.name)}"
        pictures = []
        for path in draw_slices(volume, found, truth, output=self.directory / folder, count=self.slices):
            said = f"Slice {path.stem} of {tomogram.name} with circles around particles"
            height = Layout(rows=volume.data.shape[1], columns=volume.data.shape[2]).height
            pictures.append(Picture(path=f"{folder}/{path.name}", width=WIDTH, height=height, alternative=said))
        return pictures

    def _draw_confusion(self) -> list[Markup]:
        """The matrix of all tomograms with truth."""
        if not self._truth:
            return []
        matrix = confusion_of_runs(self._found, self._truth)
        caption = (
            "True types by row, found types by column; the fuller a cell, the larger its share of its row. The last "
            "column counts what was missed, the last row what was found where there is nothing. Found and true "
            "particles are paired one to one: those of the same type first, then others within half the larger radius."
        )
        return [self._plot("confusion", caption, lambda theme: draw_confusion_matrix(matrix, theme))]

    def _draw_curves(self, score: Score | None) -> list[Markup]:
        """Precision, recall and F-beta by threshold, if there is a choice of thresholds."""
        curves = threshold_curves(self._found, self._truth | self._missed) if self._truth else {}
        if not curves:
            return []
        caption = (
            "What would become of the picks of each type if only those above a threshold were kept. The curves begin "
            "with all of them."
        )
        drawn = [self._plot("thresholds", caption, lambda theme: draw_threshold_curves(curves, theme))]
        if score is not None:
            caption = "Precision against recall. A mark is this prediction; on a thin line F-beta is the same."
            drawn.append(
                self._plot("precision-recall", caption, lambda theme: draw_precision_recall(curves, score, theme))
            )
        return drawn

    def _draw_counts(self) -> list[Markup]:
        """Bars for the tomograms, if there are several."""
        if len(self._runs) < 2:
            return []
        caption = "Particles of each type in each tomogram, in the order of the table."
        return [self._plot("counts", caption, lambda theme: draw_counts(self._runs, theme))]

    def _plot(self, name: str, caption: str, draw: Callable[[Theme], "Figure"]) -> Markup:
        """Draw a plot for light and for dark screens."""
        pictures = []
        for theme in (LIGHT, DARK):
            path = f"images/{name}-{theme.name}.svg"
            figure = draw(theme)
            try:
                figure.savefig(self.directory / path, format="svg", metadata={"Date": None})
            except OSError as error:
                raise InputError(f"{self.directory / path}: cannot be written: {error}") from error
            width, height = figure.canvas.get_width_height()
            pictures.append(Picture(path=path, width=width, height=height, alternative=caption))
        light, dark = pictures
        return sections.plot(light, dark, caption)

    def _write(self, html: str) -> Path:
        """Put the page where it belongs when it is complete."""
        path = self.directory / "index.html"
        with whole_file(path) as partial:
            partial.write_text(html, encoding="utf8", errors="backslashreplace")  # a path may be no text
        return path


@contextmanager
def _nothing_said() -> Iterator[None]:
    """Without what the package warns of."""
    ours = logging.getLogger("kaggle_cryoet")
    before = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(before)
