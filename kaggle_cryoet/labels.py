"""Labels of a run: its true picks, in whichever form they lie."""

from pathlib import Path

from kaggle_cryoet.picks import USER_ID, Picks, holds_predictions_alone, read_copick
from kaggle_cryoet.portal import ANNOTATIONS, holds_annotations, read_annotations

NO_LABELS = f"files named {USER_ID}_..., of what was found by it, do not count"
"""Said where labels are missing."""


def read_labels(picks_directory: str | Path) -> Picks:
    """Picks of one run from a folder of copick JSON files, or from `Annotations` of the CryoET Data Portal.

    Raises
    ------
    InputError
        As `read_copick` and `read_annotations` do.
    """
    directory = Path(picks_directory)
    return read_annotations(directory) if directory.name == ANNOTATIONS else read_copick(directory)


def holds_labels(picks_directory: Path) -> bool:
    """Whether a folder is there and holds something else than what this program found, or nothing.

    `Annotations` must hold some of particles that are known.
    """
    if picks_directory.name == ANNOTATIONS:
        return holds_annotations(picks_directory)
    return picks_directory.is_dir() and not holds_predictions_alone(picks_directory)
