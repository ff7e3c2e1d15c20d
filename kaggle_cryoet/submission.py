"""The competition's csv of picks: `id,experiment,particle_type,x,y,z`, of a submission or of the truth."""

import csv
import logging
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import reverse_axes
from kaggle_cryoet.ome_zarr import is_store
from kaggle_cryoet.particles import PARTICLE_NAMES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)
T = TypeVar("T")

COLUMNS = ("id", "experiment", "particle_type", "x", "y", "z")
"""Columns of the csv; x, y, z in Å."""
MOST_SHOWN = 80
"""So many characters of what a file holds in place of what was expected are shown."""


def check_replaceable(path: Path) -> None:
    """Raise an `InputError` if a csv is to be written over a file that is none, or into a tomogram.

    Nothing but an empty file, or one whose first line has the names of `COLUMNS`, gives way to picks.
    """
    inside = next((folder for folder in path.absolute().resolve().parents if is_store(folder)), None)
    if inside is not None:
        raise InputError(f"{path}: lies in the tomogram {inside.name}; expected another csv to write")
    try:
        if not path.is_file():
            return
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            line = file.readline(4096)
    except OSError:  # whoever writes says what is wrong
        return
    if line and sorted(next(csv.reader([line]), [])) != sorted(COLUMNS):
        raise InputError(f"{path}: is there and holds no picks; expected the name of a csv to write")


def write_submission(path: str | Path, picks_by_run: Mapping[str, Picks]) -> "pandas.DataFrame":
    """Write the csv and return it as a table.

    Rows follow the order of the runs and of their picks, `id` counts them from 0, and positions are rounded to 0.001 Å.
    Without picks the csv is its header. The file appears under its name only when it is complete; its folder is created
    if the folder above exists.

    Raises
    ------
    InputError
        If a run has no name or the file cannot be written.
    """
    import pandas as pd

    path = Path(path)
    if not all(picks_by_run):
        raise InputError("a run has an empty name; expected the name of an experiment")
    picks = list(picks_by_run.values())
    position_xyz = reverse_axes(np.concatenate([np.empty((0, 3)), *(part.position_zyx_angstrom for part in picks)]))
    columns = {
        "id": np.arange(len(position_xyz)),
        "experiment": [run for run, part in picks_by_run.items() for _ in range(len(part))],
        "particle_type": [PARTICLE_NAMES[label] for part in picks for label in part.label],
        **dict(zip("xyz", position_xyz.round(3).T + 0.0, strict=True)),  # + 0.0 takes the sign from a zero
    }
    table = pd.DataFrame(columns, columns=COLUMNS)
    with whole_file(path) as partial:
        path.absolute().parent.mkdir(exist_ok=True)
        table.to_csv(partial, index=False, float_format="%.3f")
    return table


def read_submission(path: str | Path, *, experiments: Collection[str] | None = None) -> dict[str, Picks]:
    """Picks of each experiment in a csv, in the order of their first rows, with score 1.

    Parameters
    ----------
    path
        The csv of a submission or of the truth. An experiment without rows is not in it.
    experiments
        If given, rows of other experiments are dropped before they are looked at, with a note of their number.

    Raises
    ------
    InputError
        If the file cannot be read, its columns are not the competition's, all rows are of other experiments, or a row
        has an unknown particle type, a position that is not a finite number, an id that is no integer or was used
        before, or too few or many fields.
    """
    labels: dict[str, list[int]] = {}
    positions_xyz: dict[str, list[tuple[float, ...]]] = {}
    ids: set[int] = set()
    dropped, other = 0, ""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if sorted(reader.fieldnames or ()) != sorted(COLUMNS):
                found = ",".join(reader.fieldnames or ())
                got = found if len(found) <= MOST_SHOWN else f"{found[:MOST_SHOWN]}…"
                raise InputError(f"expected a csv with the columns {','.join(COLUMNS)}, got {got or 'none'}")
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"line {reader.line_num} does not have {len(COLUMNS)} fields")
                if experiments is not None and row["experiment"] not in experiments:
                    dropped, other = dropped + 1, row["experiment"]
                    continue
                label, position_xyz = _parse(row, reader.line_num, ids)
                labels.setdefault(row["experiment"], []).append(label)
                positions_xyz.setdefault(row["experiment"], []).append(position_xyz)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected a csv") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; expected a csv") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: {error}") from error
    if dropped and experiments and not labels:
        raise InputError(
            f"{path}: of its {dropped} rows none is of an experiment with picks to compare, as {min(experiments)}; "
            f"they are of others, as {other}"
        )
    if dropped:
        logger.warning("%s: %d rows of experiments that are not scored are dropped", path, dropped)
    return {
        run: Picks(
            position_zyx_angstrom=reverse_axes(np.array(positions_xyz[run])),
            label=np.array(label, dtype=np.int64),
        )
        for run, label in labels.items()
    }


def _number(row: Mapping[str, str], name: str, kind: Callable[[str], T], expected: str, line: int) -> T:
    """A field of a row that holds a number."""
    try:
        return kind(row[name])
    except ValueError:
        raise InputError(f"line {line}: {name} is {row[name][:MOST_SHOWN]!r}; expected {expected}") from None


def _parse(row: Mapping[str, str], line: int, ids: set[int]) -> tuple[int, tuple[float, ...]]:
    """Class index and xyz position of a row; its id is added to those seen."""
    if not row["experiment"]:
        raise InputError(f"line {line} names no experiment")
    row_id = _number(row, "id", int, "an integer", line)
    try:
        label = label_of(row["particle_type"])
    except ValueError as error:
        raise InputError(f"line {line}: {error}") from error
    position_xyz = tuple(_number(row, axis, float, "a number", line) for axis in "xyz")
    if not all(map(math.isfinite, position_xyz)):
        raise InputError(f"line {line}: the position {position_xyz} is not finite")
    if row_id in ids:
        raise InputError(f"line {line}: the id {row_id} is used twice")
    ids.add(row_id)
    return label, position_xyz
