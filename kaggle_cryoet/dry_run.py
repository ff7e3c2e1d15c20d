"""A prediction of labelled tomograms as if they were not, with its score and pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.jobs import Prediction, run_prediction, write_report
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS

if TYPE_CHECKING:
    from kaggle_cryoet.metric import Score
    from kaggle_cryoet.picking.settings import PickSettings

logger = logging.getLogger(__name__)


def dry_run(
    train_dir: str | Path,
    *,
    output: str | Path = "dry-run",
    run_names: Sequence[str] = (),
    branch: str | None = None,
    device: str = "auto",
    weights: str | Path | None = None,
    settings: PickSettings | None = None,
    tomogram_type: str = "denoised",
    progress: bool = False,
    command: str = "",
) -> tuple[Prediction, Score, Path]:
    """Predict labelled tomograms as if they were not, score the result, and draw it.

    Writes `submission.csv`, `score.json` and `index.html` with pictures into `output`. What is in tomograms that could
    not be picked counts as missed, as in the competition; runs without picks are left out.

    Raises
    ------
    InputError
        If no run has picks, or every run failed.
    """
    from kaggle_cryoet import metric
    from kaggle_cryoet.labels import labelled, read_labels
    from kaggle_cryoet.picking.settings import PickSettings
    from kaggle_cryoet.report.page import ReportWriter
    from kaggle_cryoet.runs import find_runs
    from kaggle_cryoet.whole_file import write_json

    output = Path(output)
    runs = labelled(find_runs(train_dir, tomogram_type=tomogram_type, names=run_names), train_dir)
    truth = {run.name: read_labels(run.picks_directory) for run in runs if run.picks_directory is not None}
    settings = settings or PickSettings()
    branch = branch or settings.branch
    writer = ReportWriter(output, adapt_settings=settings.adapt)  # a folder that cannot be made is noticed now
    prediction = run_prediction(
        train_dir,
        output=output / "submission.csv",
        branch=branch,
        device=device,
        weights=weights,
        settings=settings,
        run_names=[run.name for run in runs],
        tomogram_type=tomogram_type,
        progress=progress,
    )
    if not prediction.picks:
        raise InputError(f"no run could be picked: {next(iter(prediction.failed.values()))}")
    if prediction.failed:
        logger.warning("what is in tomograms that could not be picked counts as missed: %d", len(prediction.failed))
    score = metric.evaluate(prediction.picks, truth)
    write_json(output / "score.json", score.to_json_dict())
    page = write_report(
        writer,
        runs,
        prediction,
        truth=truth,
        score=score,
        settings={"branch": branch, "weights": str(SHIPPED_WEIGHTS if weights is None else weights)},
        command=command,
    )
    return prediction, score, page
