"""Files that are there as a whole or not at all."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.whole_file import sole_writer, whole_file


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path
        assert partial.name.startswith(".note.json.")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_an_input_error(path: str) -> None:
    with pytest.raises(InputError, match="is a folder; expected the name of a file"), whole_file(Path(path)):
        pytest.fail("must not begin")


def test_a_file_has_one_writer_at_a_time_in_a_new_folder_as_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "submission.csv"
    again = pytest.raises(InputError, match="is being written by another process")
    with sole_writer(path), again, sole_writer(path):
        pytest.fail("must not begin")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_has_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    with sole_writer(path), sole_writer(tmp_path / "other.csv"):
        begin = f"sole_writer(Path({str(path)!r})).__enter__()"
        code = f"from pathlib import Path; from kaggle_cryoet.whole_file import sole_writer; {begin}"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"InputError: {path}: is being written by another process" in other.stderr
        with pytest.raises(InputError, match="is being written by another process"), sole_writer(path):
            pytest.fail("must not begin")
    with sole_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", "far/away/submission.csv"])
def test_where_nothing_can_be_locked_nothing_is(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sole_writer(Path(path)):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refused(self: FileLock, timeout: float) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refused)
    with caplog.at_level(logging.INFO), sole_writer(tmp_path / "submission.csv"):
        (tmp_path / "submission.csv").touch()
    assert "submission.csv: cannot be locked" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def write_half_and_fail(path: Path, error: Exception) -> None:
    with whole_file(path) as partial:
        partial.write_text("half")
        raise error


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (OSError("no space left"), InputError, r"note\.json: cannot be written: no space left"),
        (
            OSError(28, "No space left on device"),
            InputError,
            r"note\.json: cannot be written: No space left on device$",
        ),
        (KeyError("x"), KeyError, "x"),
    ],
)
def test_what_fails_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, error: Exception, told: type[Exception], words: str
) -> None:
    path = tmp_path / "note.json"
    path.write_text("old")
    with pytest.raises(told, match=words):
        write_half_and_fail(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"note\.json: cannot be written"), whole_file(tmp_path / "note.json"):
        pass
    assert not list(tmp_path.iterdir())
