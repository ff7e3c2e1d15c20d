"""The csv that grows, and going on after an interruption, a full disk, or with other settings."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaggle_cryoet import growing as growing_module
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.growing import GrowingSubmission, identity, settings_key
from kaggle_cryoet.jobs import run_prediction
from kaggle_cryoet.picking import pipeline
from kaggle_cryoet.picks import NO_PICKS, Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.submission import read_submission, write_submission
from kaggle_cryoet.whole_file import sole_writer

RUNS = ("TS_1", "TS_2", "TS_3")


def some(count: int) -> Picks:
    rng = np.random.default_rng(count)
    return Picks(
        position_zyx_angstrom=rng.uniform(0, 6000, (count, 3)),
        label=rng.integers(6, size=count),
        score=rng.random(count),
    )


def begin(
    output: Path, *, go_on: bool = True, key: str = "key", runs: tuple[str, ...] = RUNS, folder: str = "a"
) -> GrowingSubmission:
    return GrowingSubmission(output, runs={run: f"{folder}/{run}" for run in runs}, key=key, go_on=go_on)


def interrupted(output: Path) -> GrowingSubmission:
    submission = begin(output)
    submission.add("TS_2", some(5), 2.5)
    submission.add("TS_1", NO_PICKS, 1.5)
    return submission


def test_there_is_a_valid_csv_from_the_first_moment_on(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    submission = begin(output)
    assert read_submission(output) == {}
    submission.add("TS_3", some(4), 1.0)
    submission.add("TS_1", some(2), 1.0)
    assert [(run, len(picks)) for run, picks in read_submission(output).items()] == [("TS_1", 2), ("TS_3", 4)]


@pytest.mark.parametrize("name", ["taken", "."])
def test_a_folder_in_place_of_the_csv_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="is a folder; expected the name of a csv"):
        begin(tmp_path / name if name == "taken" else Path(name))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_csv_that_cannot_be_replaced_at_the_end_leaves_the_picks_beside_it(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    output.write_text("id,experiment,particle_type,x,y,z\n")
    submission = begin(output, go_on=False)
    submission.add("TS_1", some(3), 1.0)
    output.unlink()
    output.mkdir()
    with pytest.raises(InputError, match=r"cannot be replaced .*; the picks are in .*submission\.csv\.partial"):
        submission.finish()
    assert len(read_submission(tmp_path / "submission.csv.partial")["TS_1"]) == 3


def test_an_interrupted_prediction_goes_on_with_picks_scores_and_times_and_knows_runs_without_picks(
    tmp_path: Path,
) -> None:
    interrupted(tmp_path / "submission.csv")
    (tmp_path / ".submission.csv.0123456789abcdef.partial").write_text("id,exper")  # killed while it wrote
    submission = begin(tmp_path / "submission.csv")
    assert submission.seconds == {"TS_2": 2.5, "TS_1": 1.5}
    assert len(submission.picks["TS_1"]) == 0
    kept, original = submission.picks["TS_2"], some(5)
    np.testing.assert_allclose(kept.position_zyx_angstrom, original.position_zyx_angstrom, atol=6e-4)
    np.testing.assert_array_equal(kept.label, original.label)
    np.testing.assert_allclose(kept.score, original.score, atol=6e-5)
    submission.add("TS_3", some(3), 1.0)
    submission.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "submission.csv.state.json"]
    assert [(run, len(picks)) for run, picks in read_submission(submission.output).items()] == [
        ("TS_2", 5),
        ("TS_3", 3),
    ]


def test_the_note_stays_as_long_as_runs_are_missing(tmp_path: Path) -> None:
    submission = interrupted(tmp_path / "submission.csv")
    submission.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "submission.csv.state.json"]
    assert set(begin(tmp_path / "submission.csv").picks) == {"TS_1", "TS_2"}


def test_a_prediction_that_does_not_go_on_begins_anew_and_keeps_the_earlier_csv_until_it_is_done(
    tmp_path: Path,
) -> None:
    output = tmp_path / "submission.csv"
    interrupted(output)
    submission = begin(output, go_on=False)
    assert submission.picks == {}
    assert len(read_submission(output)["TS_2"]) == 5
    submission.add("TS_3", some(1), 1.0)
    assert "TS_3" not in read_submission(output)
    submission.finish()
    assert set(read_submission(output)) == {"TS_3"}


def test_what_is_left_of_an_older_prediction_does_not_stand_for_a_newer_one(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    write_submission(output, {"earlier": some(1)})
    interrupted(output)
    output.unlink()
    submission = begin(output, go_on=False)
    submission.add("TS_2", some(4), 1.0)
    again = begin(output)
    assert set(again.picks) == {"TS_2"}
    assert len(again.picks["TS_2"]) == 4


@pytest.mark.parametrize("earlier", [True, False], ids=["beside an earlier csv", "without one"])
@pytest.mark.parametrize("go_on", [True, False])
def test_going_on_with_other_settings_by_mistake_loses_nothing_before_a_tomogram_is_picked(
    tmp_path: Path, earlier: bool, go_on: bool
) -> None:
    output = tmp_path / "submission.csv"
    if earlier:
        write_submission(output, {"earlier": some(7)})
    interrupted(output)
    assert begin(output, key="another", go_on=go_on).picks == {}
    assert set(begin(output).picks) == {"TS_1", "TS_2"}


def test_an_interrupted_one_whose_csv_to_replace_is_gone_is_kept_from_a_mistake_as_well(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    write_submission(output, {"earlier": some(7)})
    interrupted(output)
    output.unlink()
    assert begin(output, key="another").picks == {}
    submission = begin(output)
    assert set(submission.picks) == {"TS_1", "TS_2"}
    submission.finish()
    assert set(read_submission(output)) == {"TS_2"}


def test_going_on_removes_half_written_files_and_no_others(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    interrupted(output)
    (tmp_path / ".submission.csv.swp").touch()
    (tmp_path / ".submission.csv.0123.partial").touch()
    begin(output)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".submission.csv.swp"]


def test_an_interrupted_prediction_beside_an_earlier_csv_goes_on_there(tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    write_submission(output, {"earlier": some(7)})
    interrupted(output)
    assert set(read_submission(output)) == {"earlier"}
    submission = begin(output)
    assert set(submission.picks) == {"TS_1", "TS_2"}
    submission.add("TS_3", some(3), 1.0)
    submission.finish()
    assert set(read_submission(output)) == {"TS_2", "TS_3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "submission.csv.state.json"]


def test_nothing_is_kept_of_a_prediction_with_other_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(tmp_path / "submission.csv")
    assert begin(tmp_path / "submission.csv", key="other").picks == {}
    assert "other settings or weights" in caplog.text


def test_two_predictions_do_not_write_to_one_csv(labelled_runs: Path, small_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    with sole_writer(output), pytest.raises(InputError, match=r"submission\.csv: is being written by another process"):
        run_prediction(labelled_runs, output=output, weights=small_model, device="cpu")
    assert not output.exists()


def test_runs_of_the_same_names_in_another_folder_are_picked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "submission.csv"
    interrupted(output)
    assert begin(output, folder="b").picks == {}
    assert "TS_2: is another tomogram than the one that was picked" in caplog.text
    assert len(read_submission(output)["TS_2"]) == 5  # what was there stays until another csv is finished


def test_a_tomogram_is_another_one_elsewhere_or_if_it_was_written_anew(tmp_path: Path) -> None:
    paths = [tmp_path / "a.mrc", tmp_path / "b.mrc", tmp_path / "c.zarr"]
    for path in paths[:2]:
        path.write_bytes(b"1")
    paths[2].mkdir()
    before = [identity(path) for path in paths]
    assert len(set(before)) == 3
    assert [identity(path) for path in paths] == before
    for path in paths:
        os.utime(path, (1, 1))
    assert not set(before) & {identity(path) for path in paths}
    assert str(tmp_path / "none.zarr") in identity(tmp_path / "none.zarr")


def test_a_tomogram_of_which_a_chunk_was_written_anew_is_another_one(tmp_path: Path) -> None:
    chunk = tmp_path / "denoised.zarr" / "0" / "0" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"voxels")
    before, folder = identity(tmp_path / "denoised.zarr"), (tmp_path / "denoised.zarr").stat().st_mtime_ns
    chunk.write_bytes(b"others")
    os.utime(chunk, ns=(folder + 10**9, folder + 10**9))
    assert (tmp_path / "denoised.zarr").stat().st_mtime_ns == folder
    assert identity(tmp_path / "denoised.zarr") != before


@pytest.mark.parametrize("content", ["", "[]", '{"format": 3}', '{"format": 3, "key": "key", "runs": {"TS_1": {}}}'])
def test_a_broken_note_is_a_new_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    submission = interrupted(tmp_path / "submission.csv")
    submission.state_path.write_text(content)
    assert begin(submission.output).picks == {}
    assert "starting anew" in caplog.text


def test_a_run_of_which_csv_and_note_do_not_agree_is_picked_again(tmp_path: Path) -> None:
    submission = interrupted(tmp_path / "submission.csv")
    write_submission(submission.output, {"TS_2": some(4)})  # one row less than the note says
    assert set(begin(submission.output).picks) == {"TS_1"}


@pytest.mark.parametrize(("runs", "others"), [(("TS_3",), "2 .*, as TS_1"), (("TS_1", "TS_3"), "1 .*, as TS_2")])
def test_a_csv_with_finished_runs_that_are_not_asked_for_is_not_gone_on_with(
    tmp_path: Path, runs: tuple[str, ...], others: str
) -> None:
    submission = interrupted(tmp_path / "submission.csv")
    before = submission.output.read_bytes(), submission.state_path.read_bytes()
    with pytest.raises(InputError, match=f"{others}, and which would be lost; expected another csv"):
        begin(submission.output, runs=runs)
    assert (submission.output.read_bytes(), submission.state_path.read_bytes()) == before
    anew = begin(submission.output, runs=("TS_3",), go_on=False)
    anew.add("TS_3", some(2), 1.0)
    anew.finish()
    assert set(read_submission(submission.output)) == {"TS_3"}
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def test_to_go_on_with_what_is_finished_is_to_do_nothing(tmp_path: Path) -> None:
    submission = begin(tmp_path / "submission.csv")
    for number, run in enumerate(RUNS):
        submission.add(run, some(number), 1.5)
    submission.finish()
    content = submission.output.read_bytes()
    again = begin(submission.output)
    assert set(again.picks) == set(RUNS)
    assert again.picks[RUNS[2]].score.tolist() == pytest.approx(some(2).score.tolist(), abs=1e-4)
    again.finish()
    assert submission.output.read_bytes() == content


def test_a_full_disk_is_said_and_leaves_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = interrupted(tmp_path / "submission.csv")

    def full(*arguments: object) -> None:
        raise InputError("submission.csv: cannot be written: [Errno 28] No space left on device")

    monkeypatch.setattr(growing_module, "write_submission", full)
    with pytest.raises(InputError, match="No space left on device"):
        submission.add("TS_3", some(3), 1.0)
    assert set(submission.picks) == {"TS_1", "TS_2"}
    assert len(submission.table) == 5
    assert set(read_submission(submission.output)) == {"TS_2"}


def test_the_key_depends_on_settings_and_on_contents_of_files(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    keys = [settings_key((1, "a"), [file]), settings_key((1, "b"), [file]), settings_key((1, "a"), [])]
    file.write_bytes(b"two")
    keys.append(settings_key((1, "a"), [file]))
    assert len(set(keys)) == 4
    file.write_bytes(b"one")
    assert settings_key((1, "a"), [file]) == keys[0]


def test_a_killed_prediction_goes_on_where_it_was_and_ends_with_the_rows_of_an_unbroken_one(
    labelled_runs: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = run_prediction(labelled_runs, output=tmp_path / "unbroken.csv", weights=small_model, device="cpu")
    output = tmp_path / "submission.csv"
    names = [run.name for run in find_runs(labelled_runs)]
    read, genuine = [], pipeline.read_adapted

    def killed_at_the_third(run: Any, settings: Any) -> Any:
        read.append(run.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return genuine(run, settings)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "read_adapted", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run_prediction(labelled_runs, output=output, weights=small_model, device="cpu", go_on=True)
    finished = set(json.loads((tmp_path / "submission.csv.state.json").read_text())["runs"])
    assert names[0] in finished
    assert names[2] not in finished
    read.clear()
    monkeypatch.setattr(pipeline, "read_adapted", lambda run, how: read.append(run.name) or genuine(run, how))
    prediction = run_prediction(labelled_runs, output=output, weights=small_model, device="cpu", go_on=True)
    assert set(read) == set(names) - finished
    assert output.read_text() == (tmp_path / "unbroken.csv").read_text()
    assert {run: len(picks) for run, picks in prediction.picks.items()} == {
        run: len(picks) for run, picks in unbroken.picks.items()
    }
    read.clear()
    again = run_prediction(labelled_runs, output=output, weights=small_model, device="cpu", go_on=True)
    assert read == []
    assert again.table.equals(prediction.table)
    assert output.read_text() == (tmp_path / "unbroken.csv").read_text()


def test_a_disk_that_fills_up_ends_the_prediction_with_reasons_for_the_runs_that_are_missing(
    labelled_runs: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = write_submission

    def full_at_the_second_tomogram(path: Path, picks: dict[str, Picks]) -> Any:
        if len(picks) == 2:
            raise InputError(f"{path}: cannot be written: {OSError(errno.ENOSPC, 'No space left on device')}")
        return genuine(path, picks)

    monkeypatch.setattr(growing_module, "write_submission", full_at_the_second_tomogram)
    names = [run.name for run in find_runs(labelled_runs)]
    prediction = run_prediction(labelled_runs, output=tmp_path / "submission.csv", weights=small_model, device="cpu")
    assert set(prediction.picks) == {names[0]}
    assert set(prediction.failed) == {names[1], names[2]}
    assert all("No space left on device" in reason for reason in prediction.failed.values())
    assert set(read_submission(tmp_path / "submission.csv")) == {names[0]}


@pytest.mark.parametrize(("cut_short", "kept"), [(True, True), (False, False)])
def test_an_earlier_csv_with_more_in_it_stays_where_a_new_one_was_cut_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut_short: bool, kept: bool
) -> None:
    output = tmp_path / "submission.csv"
    write_submission(output, {run: some(3) for run in RUNS})
    submission = begin(output, go_on=False)
    submission.add("TS_2", some(5), 1.0)
    where = submission.finish(cut_short=cut_short)
    assert set(read_submission(where)) == {"TS_2"}
    assert set(read_submission(output)) == (set(RUNS) if kept else {"TS_2"})
    assert where == (tmp_path / "submission.csv.partial" if kept else output)
    assert ("holds more tomograms and is left as it was" in caplog.text) == kept
    again = begin(output)  # and is gone on with all the same
    assert set(again.picks) == {"TS_2"}
    for run in ("TS_1", "TS_3"):
        again.add(run, some(2), 1.0)
    assert again.finish() == output
    assert {run: len(picks) for run, picks in read_submission(output).items()} == {"TS_1": 2, "TS_2": 5, "TS_3": 2}
