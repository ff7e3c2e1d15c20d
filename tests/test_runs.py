"""Every form of directory in which tomograms and picks are found."""

import os
import shutil
from pathlib import Path

import pytest

from kaggle_cryoet.copick import USER_ID, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import NO_PICKS
from kaggle_cryoet.runs import find_picks, find_runs


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A training set of three runs in the competition's layout; TS_6_4 has no picks."""
    for run in ("TS_6_4", "TS_5_4", "TS_99_9"):
        for name in ("wbp", "denoised", "isonetcorrected"):
            add(tmp_path / "train/static/ExperimentRuns" / run / "VoxelSpacing10.000" / f"{name}.zarr")
    for run in ("TS_5_4", "TS_99_9"):
        label(tmp_path / "train/overlay/ExperimentRuns" / run / "Picks")
    return tmp_path / "train"


def add(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def label(folder: Path) -> Path:
    write_copick(folder, NO_PICKS, folder.parent.name)
    return folder


@pytest.mark.parametrize("form", [".", "static", "static/ExperimentRuns"])
def test_runs_are_found_from_the_root_its_parent_and_its_folder_of_runs(train: Path, form: str) -> None:
    runs = find_runs(train / form)
    assert [run.name for run in runs] == ["TS_5_4", "TS_6_4", "TS_99_9"]
    for run in runs:
        assert run.tomogram_path == train / f"static/ExperimentRuns/{run.name}/VoxelSpacing10.000/denoised.zarr"
    picks = [train / "overlay/ExperimentRuns" / name / "Picks" for name in ("TS_5_4", "TS_99_9")]
    assert [run.picks_directory for run in runs] == [picks[0], None, picks[1]]


@pytest.mark.parametrize("form", ["", "VoxelSpacing10.000", "VoxelSpacing10.000/denoised.zarr"])
def test_one_run_is_found_from_its_folder_its_spacing_and_its_file(train: Path, form: str) -> None:
    [run] = find_runs(str(train / "static/ExperimentRuns/TS_99_9" / form))
    assert run.name == "TS_99_9"
    assert run.tomogram_path == train / "static/ExperimentRuns/TS_99_9/VoxelSpacing10.000/denoised.zarr"
    assert run.picks_directory == train / "overlay/ExperimentRuns/TS_99_9/Picks"


def test_relative_paths_name_runs_too(train: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(train / "static/ExperimentRuns/TS_5_4")
    assert find_runs(".")[0].name == "TS_5_4"
    assert [run.name for run in find_runs("..")] == ["TS_5_4", "TS_6_4", "TS_99_9"]


def test_a_link_to_a_run_keeps_its_own_name(train: Path, tmp_path: Path) -> None:
    (add(tmp_path / "ExperimentRuns") / "linked").symlink_to(train / "static/ExperimentRuns/TS_5_4")
    assert [run.name for run in find_runs(tmp_path / "ExperimentRuns")] == ["linked"]


def test_the_wanted_type_is_taken_else_the_cleanest_else_the_first(
    train: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def taken(run: Path, tomogram_type: str) -> str:
        return find_runs(run, tomogram_type=tomogram_type)[0].tomogram_path.name

    run = train / "static/ExperimentRuns/TS_5_4"
    assert taken(run, "wbp") == "wbp.zarr"
    assert caplog.text == ""
    assert taken(run, "ctfdeconvolved") == "denoised.zarr"
    assert "has no tomogram of type ctfdeconvolved; denoised.zarr is taken" in caplog.text
    (run / "VoxelSpacing10.000/denoised.zarr").rmdir()
    assert taken(run, "denoised") == "isonetcorrected.zarr"
    for name in ("sirt", "mine"):
        add(tmp_path / "run/VoxelSpacing10.000" / f"{name}.zarr")
    assert taken(tmp_path / "run", "denoised") == "mine.zarr"


def test_voxels_that_are_most_like_those_the_networks_know_are_preferred_among_equal_types(tmp_path: Path) -> None:
    for spacing in ("20.000", "4.990", "10.012"):
        add(tmp_path / f"run/VoxelSpacing{spacing}/denoised.zarr")
    assert find_runs(tmp_path / "run")[0].tomogram_path.parent.name == "VoxelSpacing10.012"


def test_a_run_without_its_tomogram_is_listed_so_that_it_can_be_named(train: Path) -> None:
    for name in ("wbp", "denoised", "isonetcorrected"):
        (train / f"static/ExperimentRuns/TS_6_4/VoxelSpacing10.000/{name}.zarr").rmdir()
    runs = find_runs(train)
    assert [run.tomogram_path.exists() for run in runs] == [True, False, True]
    assert runs[1].tomogram_path.name == "denoised.zarr"


def test_a_folder_of_files_gives_a_run_for_each(tmp_path: Path) -> None:
    add(tmp_path / "b.zarr")
    add(tmp_path / ".c.zarr.1234.partial")
    (tmp_path / "a.mrc").touch()
    (tmp_path / "notes.txt").touch()
    assert [(run.name, run.tomogram_path.name) for run in find_runs(tmp_path)] == [("a", "a.mrc"), ("b", "b.zarr")]
    assert [run.name for run in find_runs(tmp_path / "a.mrc")] == ["a"]
    (tmp_path / "a.rec").touch()
    with pytest.raises(InputError, match="two tomograms named 'a'"):
        find_runs(tmp_path)


def test_a_file_beside_a_store_of_its_name_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path / "b.zarr")
    (tmp_path / "b.mrc").touch()
    assert [run.tomogram_path.name for run in find_runs(tmp_path)] == ["b.zarr"]
    assert "1 files are left out beside a .zarr of their name" in caplog.text


def test_folders_with_one_tomogram_in_each_are_runs(tmp_path: Path) -> None:
    for name in ("TS_01", "TS_02"):
        (add(tmp_path / name) / f"{name}_rec.mrc").touch()
        add(tmp_path / name / "frames")
    (tmp_path / "notes").mkdir()
    found = [(run.name, run.tomogram_path.name) for run in find_runs(tmp_path)]
    assert found == [("TS_01", "TS_01_rec.mrc"), ("TS_02", "TS_02_rec.mrc")]
    (tmp_path / "TS_02" / "TS_02_odd.mrc").touch()
    with pytest.raises(InputError, match=r"TS_02: holds 2 tomograms \(TS_02_odd\.mrc, TS_02_rec\.mrc\); expected one"):
        find_runs(tmp_path)


def test_a_folder_with_nothing_in_it_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match=r"holds no tomogram; expected .* folders with one of these in each"):
        find_runs(tmp_path)


def test_stores_without_a_suffix_are_found_in_a_folder(tmp_path: Path) -> None:
    for name, file in (("TS_1", ".zgroup"), ("TS_2", "zarr.json")):
        (add(tmp_path / name) / file).touch()
    (tmp_path / "notes").mkdir()
    (add(tmp_path / "TS_10.01") / ".zarray").touch()
    (tmp_path / "TS_1.mrc").touch()  # beside the store of its name
    assert [run.name for run in find_runs(tmp_path)] == ["TS_1", "TS_10.01", "TS_2"]
    assert find_runs(tmp_path)[0].tomogram_path.name == "TS_1"


def test_the_type_of_an_ome_zarr_is_what_is_before_both_suffixes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("ctfdeconvolved", "denoised", "wbp"):
        add(tmp_path / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.012" / f"{kind}.ome.zarr")
    for kind in ("denoised", "wbp"):
        (run,) = find_runs(tmp_path, tomogram_type=kind)
        assert run.tomogram_path.name == f"{kind}.ome.zarr"
    assert not caplog.records


@pytest.mark.parametrize(
    "form",
    [
        ".",
        "10440",
        "10440/TS_5_4",
        "10440/TS_5_4/Reconstructions",
        "10440/TS_5_4/Reconstructions/VoxelSpacing10.012",
        "10440/TS_5_4/Reconstructions/VoxelSpacing10.012/Tomograms",
    ],
)
def test_a_dataset_of_the_cryoet_data_portal_is_found(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number, processing in (("100", "raw"), ("101", "denoised")):
        folder = add(tmp_path / "10440/TS_5_4/Reconstructions/VoxelSpacing10.012/Tomograms" / number)
        (folder / "tomogram_metadata.json").write_text(f'{{"processing": "{processing}"}}')
        (folder / "TS_5_4.mrc").touch()
        add(folder / "TS_5_4.zarr")
    add(tmp_path / "10440/TS_5_4/Reconstructions/VoxelSpacing4.990/Tomograms/100/TS_5_4.zarr")
    add(tmp_path / "10440/TS_5_4/TiltSeries")
    if form == ".":  # what is above a dataset is not
        with pytest.raises(InputError, match="holds no tomogram"):
            find_runs(tmp_path)
        return
    [run] = find_runs(tmp_path / form)
    assert run.name == "TS_5_4"
    assert run.tomogram_path.relative_to(tmp_path).parts[-4:] == (
        "VoxelSpacing10.012",
        "Tomograms",
        "101",
        "TS_5_4.zarr",
    )
    assert caplog.text == ""
    [raw] = find_runs(tmp_path / form, tomogram_type="wbp")
    assert raw.tomogram_path.parent.name == "100"
    [itself] = find_runs(run.tomogram_path)
    assert (itself.name, itself.tomogram_path) == (run.name, run.tomogram_path)
    [beside] = find_runs(run.tomogram_path.parent)
    assert (beside.name, beside.tomogram_path) == (run.name, run.tomogram_path)


def test_runs_are_chosen_by_their_names_and_others_are_not_spoken_of(
    train: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (train / "static/ExperimentRuns/TS_6_4/VoxelSpacing10.000/denoised.zarr").rmdir()
    assert [run.name for run in find_runs(train, names=["TS_5_4"])] == ["TS_5_4"]
    assert [run.name for run in find_runs(train, names=["TS_9*", "TS_5_4"])] == ["TS_5_4", "TS_99_9"]
    assert caplog.text == ""
    assert [run.name for run in find_runs(train, names=["TS_?_4"])] == ["TS_5_4", "TS_6_4"]
    assert "TS_6_4: has no tomogram of type denoised" in caplog.text
    with pytest.raises(InputError, match=r"holds no run TS_1, X\*$"):
        find_runs(train, names=["X*", "TS_5_4", "TS_1"])


def test_a_name_that_is_not_utf_8_is_spelt_out(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"bad_\xff.mrc")).touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    [run] = find_runs(tmp_path)
    assert run.name == "bad_\\udcff"
    assert run.tomogram_path.exists()


def test_files_of_forms_that_are_not_read_are_said_to_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.mrc", "b.rec", "c.mrc.gz", "d.map", "notes.txt"):
        (tmp_path / name).touch()
    assert [run.name for run in find_runs(tmp_path)] == ["a", "b"]
    assert "2 files are left out, as c.mrc.gz; expected .zarr, .mrc or .rec" in caplog.text


def test_picks_in_the_run_itself_are_found(tmp_path: Path) -> None:
    add(tmp_path / "ExperimentRuns/TS_1/VoxelSpacing10.000/denoised.zarr")
    picks = label(tmp_path / "ExperimentRuns/TS_1/Picks")
    assert find_runs(tmp_path)[0].picks_directory == picks
    assert find_picks(tmp_path) == {"TS_1": picks}


def test_directories_without_tomograms_are_refused(tmp_path: Path, train: Path) -> None:
    with pytest.raises(InputError, match="absent: does not exist"):
        find_runs(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no tomogram; expected ExperimentRuns"):
        find_runs(train / "overlay")
    with pytest.raises(InputError, match="holds no tomogram"):
        find_runs(add(tmp_path / "TS_1/VoxelSpacing10.000"))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no tomogram"):
        find_runs(tmp_path / "notes.txt")


@pytest.mark.parametrize("form", [".", "overlay", "overlay/ExperimentRuns", "static", "static/ExperimentRuns"])
def test_picks_are_found_with_and_without_tomograms(train: Path, form: str) -> None:
    root = train / "overlay/ExperimentRuns"
    assert find_picks(train / form) == {run: root / run / "Picks" for run in ("TS_5_4", "TS_99_9")}


def test_the_picks_of_one_run_are_found(train: Path) -> None:
    run = train / "overlay/ExperimentRuns/TS_5_4"
    assert find_picks(run) == find_picks(run / "Picks") == {"TS_5_4": run / "Picks"}
    assert find_picks(train / "static/ExperimentRuns/TS_5_4") == {"TS_5_4": run / "Picks"}


def test_a_folder_of_picks_may_bear_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "TS_5_4"
    write_copick(folder, NO_PICKS, "TS_5_4")
    (folder / "notes.json").write_text("[]")
    assert find_picks(folder) == {"TS_5_4": folder}


def test_runs_without_picks_are_left_out_with_a_note(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    find_picks(train / "static")
    assert "1 of 3 runs have no picks and are left out" in caplog.text


def test_directories_without_picks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picks; looked for ExperimentRuns"):
        find_picks(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_picks(tmp_path / "absent")


@pytest.mark.parametrize("form", [".", "overlay", "static", "static/ExperimentRuns", "static/ExperimentRuns/TS_5_4"])
def test_picks_are_those_of_the_runs_where_both_the_overlay_and_a_run_have_some(train: Path, form: str) -> None:
    own = label(train / "static/ExperimentRuns/TS_5_4/Picks")
    overlay = train / "overlay/ExperimentRuns/TS_5_4/Picks"
    assert find_picks(train / form)["TS_5_4"] == overlay
    assert find_runs(train, names=["TS_5_4"])[0].picks_directory == overlay
    shutil.rmtree(overlay)
    overlay.mkdir()  # which says nothing
    assert find_runs(train, names=["TS_5_4"])[0].picks_directory == own
    if form != "overlay":
        assert find_picks(train / form)["TS_5_4"] == own


def test_an_overlay_beside_runs_is_theirs(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    add(root / "ExperimentRuns/TS_1/VoxelSpacing10.000/denoised.zarr")
    picks = label(root / "overlay/ExperimentRuns/TS_1/Picks")
    label(tmp_path / "overlay/ExperimentRuns/TS_1/Picks")  # of another project
    assert find_runs(root)[0].picks_directory == picks
    assert find_picks(root) == find_picks(root / "ExperimentRuns") == {"TS_1": picks}


def test_picks_beside_a_file_are_not_said_to_be_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picks = label(tmp_path / "TS_1/Picks")
    (tmp_path / "TS_1/full.mrc").touch()
    assert find_picks(tmp_path / "TS_1") == {"TS_1": picks}
    assert not caplog.text


@pytest.mark.parametrize(
    ("picks", "volumes"),
    [
        ("TS_1/Picks", ["TS_1/full.mrc", "TS_1/half.mrc"]),
        ("ExperimentRuns/TS_1/Picks", ["raw/a.mrc", "raw/b.mrc"]),
        ("overlay/ExperimentRuns/TS_1/Picks", ["tomograms/a.mrc", "tomograms/b.mrc"]),
        ("overlay/ExperimentRuns/TS_1/Picks", ["a.mrc", "a.rec"]),
    ],
)
def test_picks_are_found_beside_tomograms_that_could_not_be_told_apart(
    tmp_path: Path, picks: str, volumes: list[str]
) -> None:
    label(tmp_path / picks)
    for name in volumes:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError) as caught:
        find_runs(tmp_path)
    assert find_picks(tmp_path) == {"TS_1": tmp_path / picks}
    shutil.rmtree(tmp_path / picks)
    write_copick(tmp_path / picks, NO_PICKS, "TS_1", user_id=USER_ID)  # which are no labels
    with pytest.raises(InputError) as again:
        find_picks(tmp_path)
    assert str(again.value) == str(caught.value)


def test_empty_folders_of_picks_are_no_labels(train: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(train / "overlay/ExperimentRuns/TS_6_4/Picks")
    assert [run.picks_directory is None for run in find_runs(train)] == [False, True, False]
    assert list(find_picks(train)) == ["TS_5_4", "TS_99_9"]
    assert "1 of 3 runs have no picks and are left out" in caplog.text
    for name in ("ribosome.star", "broken.json"):  # which are not to be passed over
        (train / "overlay/ExperimentRuns/TS_6_4/Picks" / name).touch()
        assert list(find_picks(train)) == ["TS_5_4", "TS_6_4", "TS_99_9"]


def test_empty_folders_of_picks_are_no_predictions_either(tmp_path: Path) -> None:
    add(tmp_path / "TS_2/Picks")
    with pytest.raises(InputError, match="holds no picks; looked for"):
        find_picks(tmp_path)
    write_copick(tmp_path / "TS_1/Picks", NO_PICKS, "TS_1", user_id=USER_ID)
    assert find_picks(tmp_path) == {"TS_1": tmp_path / "TS_1/Picks"}


def test_predictions_beside_tomograms_are_no_truth(tmp_path: Path) -> None:
    add(tmp_path / "TS_1/VoxelSpacing10.000/denoised.zarr")
    write_copick(tmp_path / "TS_1/Picks", NO_PICKS, "TS_1", user_id=USER_ID)
    for form in (tmp_path, tmp_path / "TS_1"):
        with pytest.raises(InputError, match="holds no picks; looked for"):
            find_picks(form)
    shutil.rmtree(tmp_path / "TS_1/VoxelSpacing10.000")
    assert find_picks(tmp_path / "TS_1") == {"TS_1": tmp_path / "TS_1/Picks"}
