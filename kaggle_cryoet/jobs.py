"""What a user asks for, from input to files: predict and evaluate; the command line calls these."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet import __version__
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, find_models

if TYPE_CHECKING:
    import pandas

    from kaggle_cryoet.growing import GrowingSubmission
    from kaggle_cryoet.metric import Score
    from kaggle_cryoet.picking.pipeline import Outcome
    from kaggle_cryoet.picking.settings import PickSettings
    from kaggle_cryoet.picks import Picks
    from kaggle_cryoet.report.page import ReportWriter
    from kaggle_cryoet.tomogram import RunLocation

__all__ = [
    "Prediction",
    "evaluate",
    "join",
    "predict",
    "run_prediction",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What came of a prediction."""

    table: pandas.DataFrame
    """The rows of the submission."""
    picks: dict[str, Picks]
    """Picks by run, of all runs that were finished."""
    output: Path
    """Where they are: the csv that was asked for, or what is beside it if an earlier one with more in it was kept."""
    failed: dict[str, str]
    """Reasons by run, of those that could not be picked or were not begun in time."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time for each finished run, reading left out."""


def run_prediction(
    tomogram_dir: str | Path,
    *,
    output: str | Path = "submission.csv",
    branch: str | None = None,
    device: str = "auto",
    weights: str | Path | None = None,
    report: str | Path | None = None,
    picks: str | Path | None = None,
    settings: PickSettings | None = None,
    time_limit_seconds: float | None = None,
    run_names: Sequence[str] = (),
    tomogram_type: str = "denoised",
    progress: bool = False,
    command: str = "",
    go_on: bool = False,
) -> Prediction:
    """Find the particles in tomograms and write `submission.csv`.

    A csv of what is done so far is written after each tomogram: to `output` if there is none yet, else beside it as
    `output` + `.partial`, which replaces the earlier one at the end, unless it was cut short and has less in it. As
    long as tomograms are missing, a note, `output` + `.state.json`, says which are finished. No two predictions write
    to one csv at a time.

    Parameters
    ----------
    tomogram_dir
        As in `find_runs`.
    output
        Path of the csv.
    branch
        Which networks pick: one of `picking.branches.BRANCHES`, in place of that of the settings.
    device
        `auto`, `cpu` or `cuda`.
    weights
        Folder with the model folders that the branch needs, `unet3d`, `yolo11`, `hybrid`, or the one model folder that
        it needs; the weights of the package if not given.
    report
        Folder for an HTML page with pictures.
    picks
        Folder for copick JSON files with scores, `ExperimentRuns/<run>/Picks/kaggle-cryoet_0_<particle>.json` in it.
    settings
        How the networks are applied and points are found.
    time_limit_seconds
        If a forecast from the first tomograms is beyond this, the others are picked without trying their own
        statistics, then with fewer flips, then without overlap of windows, at last by a lesser branch. No tomogram is
        begun that would not end in this time; those left out count as failed.
    run_names
        Only these runs; `TS_*` are all whose names begin so.
    tomogram_type
        Reconstruction to take where a run has several.
    progress
        Show a bar.
    command
        Command line that the report shows for reproduction.
    go_on
        Keep what an interrupted prediction of the same tomograms with the same settings has finished.

    Raises
    ------
    InputError
        If nothing can be done at all: no tomograms, no weights, no folder to write to. One bad tomogram among others is
        reported in `Prediction.failed` instead.
    """
    from kaggle_cryoet.copick import USER_ID, write_copick
    from kaggle_cryoet.growing import GrowingSubmission, identity, settings_key
    from kaggle_cryoet.models.store import DESCRIPTION_FILE, WEIGHTS_FILE
    from kaggle_cryoet.picking.devices import choose_devices
    from kaggle_cryoet.picking.pickers import load_pickers
    from kaggle_cryoet.picking.pipeline import pick_runs
    from kaggle_cryoet.picking.settings import PickSettings
    from kaggle_cryoet.runs import find_runs
    from kaggle_cryoet.submission import check_replaceable
    from kaggle_cryoet.whole_file import sole_writer

    started = time.monotonic()
    if time_limit_seconds is not None and not time_limit_seconds > 0:
        raise InputError(f"the time limit must be positive, got {time_limit_seconds} s")
    deadline = None if time_limit_seconds is None else started + time_limit_seconds
    runs = find_runs(tomogram_dir, tomogram_type=tomogram_type, names=run_names)
    check_replaceable(Path(output))
    weights = SHIPPED_WEIGHTS if weights is None else Path(weights)
    settings = settings or PickSettings()
    branch = branch or settings.branch
    settings = replace(settings, branch=branch)
    folders = find_models(branch, weights)
    load_pickers(branch, weights)  # weights that cannot be used are noticed now, before an output is touched
    devices = choose_devices(device)
    if branch == "yolo" and settings.segment.flips > 1:
        raise InputError("flips are for the U-Net; with the branch yolo there is none to be averaged over them")
    if branch == "yolo" and settings.own_statistics == "always":
        raise InputError("own statistics are for the U-Net; with the branch yolo there is none to go by them")
    files = [folder / name for folder in folders.values() for name in (DESCRIPTION_FILE, WEIGHTS_FILE)]
    key = settings_key((__version__, settings, tomogram_type), [file for file in files if file.exists()])
    writer = None
    if report is not None:
        from kaggle_cryoet.report.page import ReportWriter

        writer = ReportWriter(report, adapt_settings=settings.adapt)  # a folder that cannot be made is noticed now
    if picks is not None:
        _make_folder(Path(picks))
    identities = {run.name: identity(run.tomogram_path) for run in runs}
    with sole_writer(Path(output)):
        growing = GrowingSubmission(Path(output), runs=identities, key=key, go_on=go_on)
        missing = [run for run in runs if run.name not in growing.picks]
        outcomes = pick_runs(missing, weights, settings=settings, devices=devices, deadline=deadline)
        left = "not begun" if time_limit_seconds is None else f"not begun within {time_limit_seconds:g} s"
        said = f"picking on {', '.join(map(str, devices))}" if progress else ""
        reasons, not_begun = _add_outcomes(growing, outcomes, missing, not_begun=left, progress=said)
        written = growing.finish(cut_short=bool(not_begun))
    if picks is not None:
        for name, found in growing.picks.items():
            write_copick(Path(picks) / "ExperimentRuns" / name / "Picks", found, name, user_id=USER_ID)
    prediction = Prediction(
        table=growing.table,
        picks=dict(sorted(growing.picks.items())),
        output=written,
        failed=dict(sorted((reasons | not_begun).items())),
        seconds=growing.seconds,
    )
    if writer is not None:
        used = {"branch": branch, "weights": ", ".join(map(str, folders.values()))}
        write_report(writer, runs, prediction, truth=None, score=None, settings=used, command=command)
    return prediction


def _make_folder(folder: Path) -> None:
    """Make a folder, with those above it, before there is anything to write into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error}") from error


def _add_outcomes(
    growing: GrowingSubmission,
    outcomes: Generator[Outcome, None, None],
    missing: Sequence[RunLocation],
    *,
    not_begun: str,
    progress: str,
) -> tuple[dict[str, str], dict[str, str]]:
    """Add what comes of the missing runs to the csv; why some failed, and why some have no outcome, by run."""
    from tqdm.auto import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    reasons: dict[str, str] = {}
    done, total = len(growing.picks), len(growing.picks) + len(missing)
    with (
        closing(outcomes),
        logging_redirect_tqdm(),  # else what is said stands at the end of the bar
        tqdm(total=total, initial=done, desc=progress, unit="tomogram", disable=not progress) as bar,
    ):
        for outcome in outcomes:
            if outcome.picks is None:
                logger.warning("%s: %s", outcome.run, outcome.reason)
                reasons[outcome.run] = outcome.reason
            else:
                try:
                    growing.add(outcome.run, outcome.picks, outcome.seconds)
                except InputError as error:
                    logger.warning("%s; the csv holds %d of %d tomograms", error, len(growing.picks), total)
                    not_begun = f"not picked, because {error}"
                    break
            bar.update()
    return reasons, {run.name: not_begun for run in missing if run.name not in growing.picks.keys() | reasons.keys()}


def predict(tomogram_dir: str | Path, output: str | Path = "submission.csv", **options: object) -> pandas.DataFrame:
    """Find the particles in tomograms, write the csv, and return its rows.

    Takes the options of `run_prediction`. Runs that failed are named, with reasons, in `table.attrs["failed"]`.
    """
    prediction = run_prediction(tomogram_dir, output=output, **options)  # type: ignore[arg-type]
    prediction.table.attrs["failed"] = prediction.failed
    return prediction.table


def evaluate(submission: str | Path, truth: str | Path) -> Score:
    """Score of a submission against picks: a csv, or a folder as `find_picks` takes it."""
    from kaggle_cryoet import metric
    from kaggle_cryoet.submission import read_submission

    reference = metric.read_truth(truth)
    return metric.evaluate(read_submission(submission, experiments=reference), reference)


def join(submissions: Sequence[str | Path], output: str | Path) -> pandas.DataFrame:
    """Write one csv of the rows of several, which are of different experiments, and return it as a table.

    Of those that are not finished it is told which tomograms are missing.

    Raises
    ------
    InputError
        If a csv cannot be read, an experiment is in two of them, or the new one cannot be written.
    """
    from kaggle_cryoet.growing import missing_runs
    from kaggle_cryoet.submission import check_replaceable, read_submission, write_submission
    from kaggle_cryoet.whole_file import sole_writer

    check_replaceable(Path(output))
    joined: dict[str, Picks] = {}
    for path in map(Path, submissions):
        picks = read_submission(path)
        twice = sorted(joined.keys() & picks.keys())
        if twice:
            raise InputError(f"{path}: {twice[0]} is in another one as well; expected each experiment in one csv")
        missing = missing_runs(path)
        if missing:
            logger.warning("%s: is not finished; missing are %d, as %s", path, len(missing), missing[0])
        joined |= picks
    with sole_writer(Path(output)):
        return write_submission(output, dict(sorted(joined.items())))


def write_report(
    writer: ReportWriter,
    runs: Sequence[RunLocation],
    prediction: Prediction,
    *,
    truth: Mapping[str, Picks] | None,
    score: Score | None,
    settings: Mapping[str, object],
    command: str,
) -> Path:
    """Draw the picked tomograms, which are read again for it, and write the page."""
    for run in runs:
        true = None if truth is None else truth[run.name]
        if run.name in prediction.picks:
            writer.add_tomogram(run, prediction.picks[run.name], true, seconds=prediction.seconds[run.name])
        elif true is not None:
            writer.add_missed(run.name, true)
    return writer.finish(score, prediction.failed, settings, command=command)
