"""Labels of a run: its true picks, in whichever form they lie."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from kaggle_cryoet.copick import USER_ID, holds_files_of_others, holds_known_copick, read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.portal import holds_annotations, is_annotations, read_annotations
from kaggle_cryoet.tomogram import RunLocation

logger = logging.getLogger(__name__)

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
    return read_annotations(directory) if is_annotations(directory) else read_copick(directory)


def choose_labels(picks: Iterable[Path], annotations: Iterable[Path]) -> Path | None:
    """Of folders of copick files and of `Annotations`, in the order of preference, that which a run is labelled by.

    The first with copick files of a particle that is known, or broken ones, then the first annotations of one, then the
    first folder with files of anybody but this program; None if there is none.
    """
    own = [path for path in picks if holds_files_of_others(path)]
    known = next((path for path in own if holds_known_copick(path)), None)
    return known or next((path for path in annotations if holds_annotations(path)), next(iter(own), None))


def labelled(runs: Sequence[RunLocation], directory: str | Path) -> list[RunLocation]:
    """Those of the runs found in a directory that have picks; others are left out, with a warning.

    Raises
    ------
    InputError
        If none has.
    """
    kept = [run for run in runs if run.picks_directory is not None]
    if not kept:
        raise InputError(
            f"{directory}: no run has picks, not even {runs[0].name}; looked for <run>/Picks/<particle>.json, in an "
            f"overlay as well, and for Annotations of the CryoET Data Portal ({NO_LABELS})"
        )
    warn_of_unlabelled(directory, len(runs) - len(kept), len(runs))
    return kept


def warn_of_unlabelled(directory: str | Path, count: int, of: int) -> None:
    """Say that so many of the runs in a directory have no picks, unless none is without or all are."""
    if 0 < count < of:
        logger.warning("%s: %d of %d runs have no picks and are left out", directory, count, of)
