"""The csv that grows while tomograms are picked, and the note from which an interrupted prediction goes on."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import NO_PICKS, Picks
from kaggle_cryoet.submission import read_submission, write_submission
from kaggle_cryoet.whole_file import whole_file

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)

FORMAT = 3


def settings_key(settings: Iterable[object], files: Iterable[Path]) -> str:
    """Digest of everything that decides what is found: settings, by their texts, and the contents of files."""
    digest = hashlib.sha256()
    for value in settings:
        digest.update(f"{value!r}\0".encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def identity(path: Path) -> str:
    """What tells a file or folder, with what is in it, from another one that is, or was, elsewhere or in its place."""
    try:
        found = [entry.stat() for entry in (path, *path.rglob("*"))]
    except OSError:  # whoever reads it will say so
        return str(path.absolute())
    newest, size = max(entry.st_mtime_ns for entry in found), sum(entry.st_size for entry in found)
    return f"{path.absolute()} {len(found)} {newest} {size}"


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What the note says of a finished run."""

    tomogram: str
    seconds: float
    scores: list[float]


def missing_runs(output: Path) -> list[str]:
    """Runs that were to be picked into a csv and are not finished, by the note beside it; none without a note."""
    try:
        content = json.loads(state_path(output).read_text(encoding="utf8"))
        return sorted(set(content["asked"]) - set(content["runs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def state_path(output: Path) -> Path:
    """Where the note about a csv is."""
    return output.with_name(output.name + ".state.json")


class GrowingSubmission:
    """A csv to which tomograms are added, valid at any moment.

    It grows under its own name if there is none yet, else as `output` + `.partial`, which takes the earlier one's place
    at the end, unless it was cut short and that holds more. `output` + `.state.json` names the runs that were asked for
    and those that are finished, without picks as well, with the scores that the csv has no room for; it is there as
    long as runs are missing, and stays where one goes on, so that to do so again is to do nothing. What an interrupted
    prediction left is kept until the first tomogram is added, so that to go on with wrong settings by mistake loses
    nothing.

    Parameters
    ----------
    output
        Path of the csv.
    runs
        Each run that is to be picked, and what identifies its tomogram.
    key
        Digest of the settings: what was begun with others is not gone on with.
    go_on
        Keep the runs that an interrupted prediction has finished, if their tomograms are the same.

    Raises
    ------
    InputError
        If the csv cannot be written, a folder bears its name, or what is to be gone on with has finished other runs.
    """

    def __init__(self, output: Path, *, runs: Mapping[str, str], key: str, go_on: bool) -> None:
        if not output.name or output.is_dir():
            raise InputError(f"{output}: is a folder; expected the name of a csv to write")
        self.output = output
        self.state_path = state_path(output)
        self.runs = dict(runs)
        self.key = key
        self.go_on = go_on
        self.picks: dict[str, Picks] = {}
        self.seconds: dict[str, float] = {}
        partial = output.with_name(output.name + ".partial")
        if go_on:
            for half_written in output.parent.glob(f".{output.name}.*.partial"):
                half_written.unlink(missing_ok=True)
        interrupted = self._read_state() if go_on else {}
        others = interrupted.keys() - self.runs.keys()
        if others:
            raise InputError(
                f"{output}: holds {len(others)} finished tomograms that are not asked for now, as {min(others)}, and "
                "which would be lost; expected another csv, or the same one without --continue"
            )
        self._take_over(partial if partial.exists() else output, interrupted)
        is_interrupted_one = bool(self.picks) and self.picks.keys() == interrupted.keys() and not partial.exists()
        self._replaces = output.exists() and not is_interrupted_one
        self.path = partial if self._replaces else output
        self._partial = partial
        self.table: pandas.DataFrame
        if self._replaces and not self.picks:
            # whether it can be written; what an interrupted prediction left stays until there is more
            empty = output.with_name(f".{output.name}.begun.partial")
            self.table = write_submission(empty, {})
            empty.unlink()
        else:
            self._write(self.picks)

    def add(self, run: str, picks: Picks, seconds: float) -> None:
        """Write the csv with one more run, then the note.

        Raises
        ------
        InputError
            If the disk is full or has otherwise become unwritable; the csv is valid.
        """
        self._write({**self.picks, run: picks})
        self.picks[run] = picks
        self.seconds[run] = seconds
        self._write_state()

    def finish(self, *, cut_short: bool = False) -> Path:
        """Take the place of an earlier csv, unless no run was picked; remove the note if it has served its turn.

        One that was cut short, by a full disk or a time limit, takes the place of no csv with more experiments in it.

        Returns
        -------
        Path
            Where the picks are.

        Raises
        ------
        InputError
            If it cannot; what was picked is then in `path`.
        """
        if self._replaces and not self.picks:
            logger.warning("no tomogram could be picked; %s is left as it was", self.output)
        elif self._replaces and cut_short and self.table["experiment"].nunique() < self._experiments_before():
            logger.warning("%s holds more tomograms and is left as it was; the picks are in %s", self.output, self.path)
            return self.path
        elif self._replaces:
            try:
                self.path.replace(self.output)
            except OSError as error:
                raise InputError(
                    f"{self.output}: cannot be replaced ({error}); the picks are in {self.path}"
                ) from error
        if self.picks:
            self._partial.unlink(missing_ok=True)
        if self.runs.keys() <= self.picks.keys() and not self.go_on:
            self.state_path.unlink(missing_ok=True)
        return self.output

    def _experiments_before(self) -> int:
        """How many the csv that is to be replaced holds; none if it is no such csv."""
        try:
            return len(read_submission(self.output))
        except InputError:
            return 0

    def _write(self, picks: Mapping[str, Picks]) -> None:
        """Write the csv; of an interrupted one whose csv to replace is no longer there, nothing is kept."""
        self.table = write_submission(self.path, dict(sorted(picks.items())))
        if picks and not self._replaces:
            self._partial.unlink(missing_ok=True)

    def _write_state(self) -> None:
        content = {
            "format": FORMAT,
            "key": self.key,
            "asked": sorted(self.runs),
            "runs": {
                run: {
                    "tomogram": self.runs[run],
                    "seconds": round(self.seconds[run], 3),
                    "scores": picks.score.round(4).tolist(),
                }
                for run, picks in self.picks.items()
            },
        }
        with whole_file(self.state_path) as partial:
            partial.write_text(json.dumps(content), encoding="utf8")

    def _read_state(self) -> dict[str, _Note]:
        """Notes of the runs that an interrupted prediction with the same settings has finished."""
        if not self.state_path.exists():
            return {}
        try:
            content: dict[str, Any] = json.loads(self.state_path.read_text(encoding="utf8"))
            found = content["format"], content["key"]
            if found != (FORMAT, self.key):
                logger.warning("%s was begun with other settings or weights; starting anew", self.output)
                return {}
            return {
                str(run): _Note(
                    tomogram=str(note["tomogram"]),
                    seconds=float(note["seconds"]),
                    scores=[float(score) for score in note["scores"]],
                )
                for run, note in content["runs"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s cannot be read (%r); starting anew", self.state_path, error)
            return {}

    def _take_over(self, path: Path, interrupted: Mapping[str, _Note]) -> None:
        """Picks of those runs of which csv and note agree; the others are picked again."""
        if not interrupted:
            return
        try:
            rows = read_submission(path)
        except InputError as error:
            logger.warning("%s; starting anew", error)
            return
        for run, note in interrupted.items():
            found = rows.get(run, NO_PICKS)
            if len(found) != len(note.scores):
                continue
            if self.runs[run] != note.tomogram:
                logger.warning("%s: is another tomogram than the one that was picked; it is picked again", run)
                continue
            self.picks[run] = Picks(
                position_zyx_angstrom=found.position_zyx_angstrom, label=found.label, score=np.array(note.scores)
            )
            self.seconds[run] = note.seconds
