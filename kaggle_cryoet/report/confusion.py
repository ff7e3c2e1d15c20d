"""Which particle types are taken for which in a submission: numbers, shares, and their picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import NO_PICKS, Picks
from kaggle_cryoet.report.matching import confusion_matrix
from kaggle_cryoet.report.plots import draw_confusion_matrix
from kaggle_cryoet.report.style import LIGHT, check_picture
from kaggle_cryoet.whole_file import whole_file, write_json

BACKGROUND = "background"


def confusion_of_runs(found: Mapping[str, Picks], truth: Mapping[str, Picks]) -> NDArray[np.int64]:
    """`(7, 7)` sum of `matching.confusion_matrix` over the runs of `truth`; of one that is not found all is missed."""
    matrix = np.zeros((len(PARTICLES) + 1,) * 2, dtype=np.int64)
    for run, reference in truth.items():
        matrix += confusion_matrix(found.get(run, NO_PICKS), reference)
    return matrix


def shares_of_rows(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(7, 7)` matrix whose rows sum to 1; rows of what there is none of stay 0.

    A row is what the true particles of a type were found as, the last column being those that were missed; the last row
    is what false positives, where nothing is, were found as.
    """
    return np.asarray(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))


def confusion_json(matrix: NDArray[np.int64]) -> dict[str, Any]:
    """Names of rows (true) and columns (found), the numbers, and their shares of the rows."""
    return {
        "classes": [*PARTICLE_NAMES, BACKGROUND],
        "rows": "true",
        "columns": "found",
        "counts": matrix.tolist(),
        "shares": shares_of_rows(matrix).round(4).tolist(),
    }


def format_confusion(matrix: NDArray[np.int64]) -> str:
    """Aligned lines of the shares: a true type in each row, what it was found as in the columns."""
    names = [*PARTICLE_NAMES, BACKGROUND]
    lines = [f"{'true / found as':<20}" + "".join(f"{name[:12]:>13}" for name in names) + f"{'number':>8}"]
    for name, row, shares in zip(names, matrix, shares_of_rows(matrix), strict=True):
        lines.append(f"{name:<20}" + "".join(f"{share:>13.3f}" for share in shares) + f"{row.sum():>8}")
    return "\n".join(lines)


def compare(submission: str | Path, truth: str | Path) -> NDArray[np.int64]:
    """`(7, 7)` confusion of a submission against picks: a csv, or a folder as `find_picks` takes it.

    Raises
    ------
    InputError
        If either is faulty.
    """
    from kaggle_cryoet.metric import read_truth, warn_of_another_unit, warn_of_unpredicted
    from kaggle_cryoet.submission import read_submission

    reference = read_truth(truth)
    found = read_submission(submission, experiments=reference)
    warn_of_unpredicted(found, reference)
    matrix = confusion_of_runs(found, reference)
    if not matrix[:-1, :-1].any():
        warn_of_another_unit(found, reference)
    return matrix


def write_confusion(matrix: NDArray[np.int64], output: str | Path) -> None:
    """Write a picture of the shares, if `output` ends in `.png`, or numbers and shares, if it ends in `.json`.

    Raises
    ------
    InputError
        If the ending is another, or the file cannot be written.
    """
    output = Path(output)
    check_picture(output, others=(".json",))
    if output.suffix.lower() == ".json":
        write_json(output, confusion_json(matrix))
        return
    with whole_file(output) as partial:
        draw_confusion_matrix(matrix, LIGHT, shares=True).savefig(partial, format="png", dpi="figure")
