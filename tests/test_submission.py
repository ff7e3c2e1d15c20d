"""The csv of picks, written and read."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.submission import COLUMNS, check_replaceable, read_submission, write_submission

HEADER = "id,experiment,particle_type,x,y,z\n"


def at(label: list[int], *position_zyx: tuple[float, float, float]) -> Picks:
    return Picks(position_zyx_angstrom=np.array(position_zyx), label=np.array(label, dtype=np.int64))


NO_PICKS = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf8")
    return path


def test_the_csv_has_a_running_id_and_coordinates_in_the_order_x_y_z(tmp_path: Path) -> None:
    picks = {
        "TS_2": at([3, 0], (604.1671, 5915.906, 468.5), (1.0, 20.0, 300.0)),
        "TS_1": at([5], (-0.0001, 2.0, 12345.6789)),
    }
    table = write_submission(tmp_path / "submission.csv", picks)
    assert (tmp_path / "submission.csv").read_text() == HEADER + (
        "0,TS_2,ribosome,468.500,5915.906,604.167\n"
        "1,TS_2,apo-ferritin,300.000,20.000,1.000\n"
        "2,TS_1,virus-like-particle,12345.679,2.000,0.000\n"
    )
    again = pd.read_csv(tmp_path / "submission.csv")
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize("picks", [{}, {"TS_1": NO_PICKS}])
def test_without_picks_the_csv_is_its_header(tmp_path: Path, picks: dict[str, Picks]) -> None:
    table = write_submission(tmp_path / "submission.csv", picks)
    assert (tmp_path / "submission.csv").read_text() == HEADER
    assert tuple(table.columns) == COLUMNS
    assert read_submission(tmp_path / "submission.csv") == {}


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["TS_1", "TS_2", 'with "quotes", commas\nand lines', "é", "NA"]),
            st.integers(0, 5),
            st.tuples(*[st.floats(-1e4, 1e4)] * 3),
        )
    )
)
def test_picks_come_back_within_a_thousandth_of_an_angstrom(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, tuple[float, float, float]]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "submission.csv"
    chosen = {run: [row for row in rows if row[0] == run] for run, _, _ in rows}
    picks = {run: at([row[1] for row in own], *(row[2] for row in own)) for run, own in chosen.items()}
    write_submission(path, picks)
    again = read_submission(path)
    assert list(again) == list(picks)
    for run, own in picks.items():
        np.testing.assert_array_equal(again[run].label, own.label)
        np.testing.assert_allclose(again[run].position_zyx_angstrom, own.position_zyx_angstrom, atol=0.000501, rtol=0)


def test_an_older_file_is_replaced_and_no_other_is_left(tmp_path: Path) -> None:
    path = save(tmp_path / "submission.csv", "old")
    write_submission(path, {"TS_1": at([0], (1, 2, 3))})
    assert len(read_submission(path)["TS_1"]) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["submission.csv"]


def test_a_write_that_fails_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(_table: pd.DataFrame, path: Path, **_: object) -> None:
        path.write_text("part")
        raise OSError("no space left")

    path = save(tmp_path / "submission.csv", "old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", fill_the_disk)
    with pytest.raises(InputError, match=r"submission\.csv: cannot be written: no space left"):
        write_submission(path, {"TS_1": at([0], (1, 2, 3))})
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["submission.csv"]


def test_the_folder_is_created_only_inside_one_that_exists(tmp_path: Path) -> None:
    write_submission(tmp_path / "new" / "submission.csv", {})
    assert (tmp_path / "new" / "submission.csv").is_file()
    with pytest.raises(InputError, match="cannot be written"):
        write_submission(tmp_path / "a" / "b" / "submission.csv", {})
    assert not (tmp_path / "a").exists()


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder.csv", tmp_path / "file" / "submission.csv"):
        with pytest.raises(InputError, match="cannot be written") as caught:
            write_submission(path, {})
        assert str(path) in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_a_run_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty name"):
        write_submission(tmp_path / "submission.csv", {"": NO_PICKS})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,TS_1,ribosome,1,2\n", "line 2 does not have 6 fields"),
        ("0,TS_1,ribosome,1,2,3,4\n", "line 2 does not have 6 fields"),
        ("0,TS_1,ribosome,1,2,3\n1,TS_1,proteasome,1,2,3\n", "line 3: unknown particle 'proteasome'"),
        ("0,TS_1,ribosome,1,2,nan\n", "line 2: the position .* is not finite"),
        ("0,TS_1,ribosome,inf,2,3\n", "line 2: the position .* is not finite"),
        ("0,TS_1,ribosome,1,,3\n", "line 2: y is ''; expected a number"),
        ("0,TS_1,ribosome,1,far,3\n", "line 2: y is 'far'; expected a number"),
        ("0,,ribosome,1,2,3\n", "line 2 names no experiment"),
        ("first,TS_1,ribosome,1,2,3\n", "line 2: id is 'first'; expected an integer"),
        ("7,TS_1,ribosome,1,2,3\n7,TS_2,ribosome,1,2,3\n", "line 3: the id 7 is used twice"),
        ('0,"TS_1,ribosome,1,2,3\n', "unexpected end of data"),
    ],
)
def test_faulty_rows_are_refused_with_their_line(tmp_path: Path, rows: str, message: str) -> None:
    path = save(tmp_path / "submission.csv", HEADER + rows)
    with pytest.raises(InputError, match=message) as caught:
        read_submission(path)
    assert str(path) in str(caught.value)


def test_rows_of_other_experiments_alone_are_refused_with_one_of_either_side(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("id,experiment,particle_type,x,y,z\n0,SIM_1,ribosome,1,2,3\n")
    with pytest.raises(InputError, match=r"of its 1 rows none is of .*, as TS_1; they are of others, as SIM_1$"):
        read_submission(path, experiments=["TS_1", "TS_2"])
    path.write_text("id,experiment,particle_type,x,y,z\n")
    assert read_submission(path, experiments=["TS_1"]) == {}


def test_what_is_no_text_and_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; expected a csv$"):
        read_submission(tmp_path)
    (tmp_path / "map.mrc").write_bytes(b"\xf0\x9f" * 100)
    with pytest.raises(InputError, match=r"is no text; expected a csv$"):
        read_submission(tmp_path / "map.mrc")
    (tmp_path / "long.json").write_text("x" * 5000)
    with pytest.raises(InputError, match="expected a csv with the columns") as told:
        read_submission(tmp_path / "long.json")
    assert len(str(told.value)) < 300 + len(str(tmp_path))


def test_no_csv_is_written_into_a_tomogram_and_a_pipe_is_not_read(tmp_path: Path) -> None:
    tomogram = tmp_path / "TS_1.zarr"
    (tomogram / "0").mkdir(parents=True)
    check_replaceable(tomogram / "picks.csv")  # a folder that is no store yet
    (tomogram / ".zgroup").write_text("{}")
    (tmp_path / "link").symlink_to(tomogram)
    for folder in (tomogram, tomogram / "0", tmp_path / "link"):
        with pytest.raises(InputError, match=r"lies in the tomogram TS_1\.zarr"):
            check_replaceable(folder / "picks.csv")
    check_replaceable(tomogram / ".." / "picks.csv")
    check_replaceable(tmp_path / ("y" * 300))
    os.mkfifo(tmp_path / "pipe")
    check_replaceable(tmp_path / "pipe")


def test_a_csv_takes_no_other_files_place(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    check_replaceable(path)
    for content in (
        "",
        "id,experiment,particle_type,x,y,z\n0,a,ribosome,1,2,3\n",
        "\ufeffz,y,x,particle_type,experiment,id\n",
    ):
        path.write_text(content, encoding="utf8")
        check_replaceable(path)
    path.write_text('"id","experiment","particle_type","x","y","z"\n', encoding="utf8")  # as R writes
    check_replaceable(path)
    path.write_text("id,experiment,particle_type,x,y,z,comment\n", encoding="utf8")
    with pytest.raises(InputError, match="is there and holds no picks"):
        check_replaceable(path)
    path.write_bytes(b"\x89PNG" + bytes(100))
    with pytest.raises(InputError, match="is there and holds no picks"):
        check_replaceable(path)


@pytest.mark.parametrize(
    "header", ["", "id,experiment,particle_type,x,y\n", "id,experiment,particle_type,x,y,z,score\n"]
)
def test_other_columns_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="expected a csv with the columns id,experiment,particle_type,x,y,z"):
        read_submission(save(tmp_path / "submission.csv", header))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"0,\xe9,ribosome,1,2,3\n")
    for name in ("absent.csv", "latin.csv", "."):
        with pytest.raises(InputError):
            read_submission(tmp_path / name)


def test_columns_may_come_in_any_order_and_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "\ufeffz,y,x,particle_type,experiment,id\n3,2,1,ribosome,TS_1,0\n")
    np.testing.assert_array_equal(read_submission(path)["TS_1"].position_zyx_angstrom, [[3, 2, 1]])


def test_a_csv_that_was_cut_off_is_refused_whichever_experiments_are_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", HEADER + "0,TS_1,ribosome,1,2,3\n57")
    with pytest.raises(InputError, match="line 3 does not have 6 fields"):
        read_submission(path, experiments=["TS_1"])


def test_rows_of_other_experiments_are_dropped_before_they_are_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "a.csv", HEADER + "0,TS_1,ribosome,1,2,3\n1,TS_2,proteasome,1,2,nan\n")
    assert list(read_submission(path, experiments=["TS_1"])) == ["TS_1"]
    assert "1 rows of experiments that are not scored are dropped" in caplog.text
