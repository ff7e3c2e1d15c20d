"""The command line as a user meets it: what it writes, what it says, and its exit status."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet.cli import main
from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.growing import GrowingSubmission
from kaggle_cryoet.jobs import run_prediction
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.store import load_unet, save_unet
from kaggle_cryoet.picking import pipeline
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS
from kaggle_cryoet.picking.pipeline import Outcome
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_picks, find_runs
from kaggle_cryoet.simulation import dataset
from kaggle_cryoet.submission import read_submission, write_submission
from kaggle_cryoet.training import finetune

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line; returns exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kaggle-cryoet", *(str(argument) for argument in arguments)])
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def assert_one_clear_line(error: str, *words: str) -> None:
    lines = [line for line in error.splitlines() if line.startswith("kaggle-cryoet:")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for word in words:
        assert word in lines[0]


def test_predict_writes_a_valid_submission_of_every_run(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "submission.csv"
    status, out, _ = run("predict", labelled_runs, "--output", output, "--weights", small_model, "--device", "cpu")
    assert status == 0
    assert "3 tomograms" in out
    assert set(read_submission(output)) == {location.name for location in find_runs(labelled_runs)}


def test_what_cannot_be_written_costs_one_line(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "score.json").mkdir()
    status, _, error = run("dry-run", labelled_runs, "--output", tmp_path, "--weights", small_model, "--device", "cpu")
    assert status == 2
    assert_one_clear_line(error, "score.json: cannot be written: Is a directory")


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        ("MemoryError()", 2, "memory ran out: MemoryError()"),
        ("RuntimeError('[enforce fail] DefaultCPUAllocator: not enough memory\\nat x')", 2, "not enough memory"),
        ("RuntimeError('a fault of ours')", 1, "a fault of ours"),
    ],
)
def test_memory_that_runs_out_costs_one_line_and_a_fault_of_ours_is_not_hidden(
    error: str, status: int, word: str
) -> None:
    raising = f"from unittest.mock import Mock; cli.cli.main = Mock(side_effect={error})"
    code = f"from kaggle_cryoet import cli; {raising}; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == status
    assert word in done.stderr
    assert ("Traceback" in done.stderr) == (status == 1)
    if status == 2:
        assert_one_clear_line(done.stderr, word)


def test_training_without_the_extra_says_what_is_missing(labelled_runs: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['lightning'] = None; from kaggle_cryoet.cli import main; main()"
    command = [sys.executable, "-c", code, "train", "unet", str(labelled_runs), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert_one_clear_line(done.stderr, "lightning is not installed", "pip install '.[train]'")
    assert not (tmp_path / "out").exists()


def test_fitting_anew_says_what_its_scores_stand_for(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_model, tmp_path / "unet3d")
    one = find_runs(labelled_runs)[0].tomogram_path
    for data, words in ((labelled_runs, "each run by what was fitted on the others"), (one, "the one run by what was")):
        status, out, _ = run("train", "thresholds", data, "--weights", tmp_path / "unet3d", "--device", "cpu")
        assert status == 0
        assert out.count("F-beta4") == 2
        assert "by thresholds, on the tomograms fitted on" in out
        assert words in out
    assert load_unet(tmp_path / "unet3d").calibration is not None


def test_predict_takes_every_form_of_directory_to_the_same_rows(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    runs = labelled_runs / "static" / "ExperimentRuns"
    contents = []
    for number, form in enumerate([labelled_runs, labelled_runs / "static", runs]):
        output = tmp_path / f"{number}.csv"
        assert run("predict", form, "--output", output, "--weights", small_model)[0] == 0
        contents.append(output.read_text())
    assert contents[0] == contents[1] == contents[2]


def test_a_report_is_written_beside_the_submission(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    name = find_runs(labelled_runs)[0].name
    arguments = ("--output", tmp_path / "s.csv", "--weights", small_model, "--report", tmp_path / "page", "--run", name)
    assert run("predict", labelled_runs, *arguments)[0] == 0
    assert name in (tmp_path / "page" / "index.html").read_text()


def test_strict_goes_by_thresholds_and_not_by_what_is_likely(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    counts = {}
    likely = Calibration(slope=(1.0,) * 6, offset=(2.0,) * 6)
    save_unet(small_model, replace(load_unet(small_model), thresholds=(0.4,) * 6, calibration=likely))  # above all
    for options in ((), ("--strict",)):
        output = tmp_path / f"{len(options)}.csv"
        assert run("predict", labelled_runs, "--output", output, "--weights", small_model, *options)[0] == 0
        counts[options] = sum(len(picks) for picks in read_submission(output).values())
    assert counts["--strict",] == 0
    assert counts[()] > 0


def test_a_bad_tomogram_is_named_with_status_3_and_the_others_are_in_the_csv(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    runs = find_runs(labelled_runs)
    shutil.rmtree(runs[1].tomogram_path / "0")
    output = tmp_path / "submission.csv"
    status, _, err = run("predict", labelled_runs, "--output", output, "--weights", small_model)
    assert status == 3
    assert f"failed: {runs[1].name}" in err
    assert set(read_submission(output)) == {runs[0].name, runs[2].name}


def test_runs_left_when_the_time_is_up_are_named_with_status_3(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "submission.csv"
    arguments = ("--output", output, "--weights", small_model, "--time-limit", "0.000001")
    status, _, err = run("predict", labelled_runs, *arguments)
    assert status == 3
    assert err.count("not begun within") >= 3
    assert len(read_submission(output)) == 0


def test_no_csv_is_written_over_a_tomogram_or_into_one(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    tomogram = find_runs(labelled_runs)[0].tomogram_path
    kept = tomogram / ".zattrs"
    before = kept.read_bytes()
    picture = tmp_path / "slice.png"
    picture.write_bytes(b"\x89PNG")
    for output, said in ((kept, "lies in the tomogram denoised.zarr"), (picture, "is there and holds no picks")):
        status, _, err = run("predict", labelled_runs, "--output", output, "--weights", small_model)
        assert status == 2
        assert_one_clear_line(err, said)
    assert kept.read_bytes() == before
    assert picture.read_bytes() == b"\x89PNG"


def test_an_earlier_submission_is_replaced_only_by_a_finished_one(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "submission.csv"
    earlier = Picks(position_zyx_angstrom=np.array([[1.0, 2.0, 3.0]]), label=np.array([3]))
    write_submission(output, {"earlier": earlier})
    before = output.read_bytes()
    for location in find_runs(labelled_runs):
        shutil.rmtree(location.tomogram_path / "0")
    status, out, _ = run("predict", labelled_runs, "--output", output, "--weights", small_model)
    assert status == 3
    assert out == ""
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.glob("submission.csv*")] == ["submission.csv"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "nowhere", ["nowhere", "does not exist"]),
        (lambda folder: folder, ["holds no tomogram"]),
    ],
    ids=["a path that does not exist", "an empty directory"],
)
def test_predict_without_tomograms_says_so_with_status_2(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], words: list[str]
) -> None:
    status, _, err = run("predict", make(tmp_path), "--output", tmp_path / "s.csv")
    assert status == 2
    assert_one_clear_line(err, *words)
    assert not (tmp_path / "s.csv").exists()


def test_an_output_folder_that_does_not_exist_is_noticed_before_the_work(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "no" / "such" / "folder" / "submission.csv"
    status, _, err = run("predict", labelled_runs, "--output", output, "--weights", small_model)
    assert status == 2
    assert_one_clear_line(err, "folder")


def test_weights_that_are_no_model_folder_end_with_status_2(run: Run, labelled_runs: Path, tmp_path: Path) -> None:
    status, _, err = run("predict", labelled_runs, "--output", tmp_path / "s.csv", "--weights", tmp_path)
    assert status == 2
    assert_one_clear_line(err, "model.json is missing")


def test_a_run_that_is_not_there_ends_with_status_2(run: Run, labelled_runs: Path, tmp_path: Path) -> None:
    status, _, err = run("predict", labelled_runs, "--run", "TS_0_0", "--output", tmp_path / "s.csv")
    assert status == 2
    assert_one_clear_line(err, "TS_0_0")


def test_bad_use_is_one_line_with_status_2(run: Run) -> None:
    unfinished = ("evaluate", "--submission", "x")
    for arguments in (("predict",), ("predict", "x", "--branch", "magic"), ("pick",), unfinished):
        status, _, err = run(*arguments)
        assert status == 2
        assert_one_clear_line(err)


@pytest.mark.parametrize("arguments", [(), ("train",)])
def test_without_a_command_the_help_is_shown_as_it_is(run: Run, arguments: tuple[str, ...]) -> None:
    _, out, err = run(*arguments)
    shown = (out + err).splitlines()
    assert shown[0].startswith("Usage: ")
    assert "Commands:" in shown


def test_a_report_that_cannot_be_made_is_noticed_before_the_work(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "report").touch()
    output = tmp_path / "submission.csv"
    arguments = ("--output", output, "--weights", small_model, "--report", tmp_path / "report")
    status, _, err = run("predict", labelled_runs, *arguments)
    assert status == 2
    assert_one_clear_line(err, "report: cannot be made")
    assert not output.exists()


def test_evaluate_prints_the_table_and_writes_the_score(run: Run, labelled_runs: Path, tmp_path: Path) -> None:
    submission, score = tmp_path / "submission.csv", tmp_path / "score.json"
    name = find_runs(labelled_runs)[0].name
    write_submission(submission, {name: Picks(position_zyx_angstrom=np.zeros((1, 3)), label=np.array([0]))})
    status, out, _ = run("evaluate", "--submission", submission, "--truth", labelled_runs, "--json", score)
    assert status == 0
    assert "score 0.0" in out
    row = json.loads(score.read_text())["particles"]["apo-ferritin"]
    assert (row["predicted"], row["true"], row["hit"], row["miss"], row["fp"]) == (1, 12, 0, 12, 1)


def test_dry_run_scores_and_draws(run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "dry"
    name = find_runs(labelled_runs)[2].name
    status, out, _ = run("dry-run", labelled_runs, "--run", name, "--output", output, "--weights", small_model)
    assert status == 0
    assert "beta-galactosidase" in out
    assert json.loads((output / "score.json").read_text())["particles"]["ribosome"]["true"] == 2
    assert (output / "submission.csv").is_file()
    assert (output / "index.html").is_file()


def test_a_dry_run_counts_a_bad_tomogram_as_missed_as_evaluate_does(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(find_runs(labelled_runs)[1].tomogram_path / "0")
    output, again = tmp_path / "dry", tmp_path / "score.json"
    assert run("dry-run", labelled_runs, "--output", output, "--weights", small_model)[0] == 3
    assert "could not be picked counts as missed: 1" in caplog.text
    csv = output / "submission.csv"
    assert run("evaluate", "--submission", csv, "--truth", labelled_runs, "--json", again)[0] == 0
    score = json.loads((output / "score.json").read_text())
    assert score == json.loads(again.read_text())
    assert score["particles"]["apo-ferritin"]["true"] == 12


@pytest.mark.parametrize(
    "option", [("--tomogram-type", "wbp"), ("--particles", "bright"), ("--voxel", 20), ("--tilt-axis", "x")]
)
def test_a_dry_run_takes_what_a_user_knows_of_the_tomograms(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    other, _, found = find_runs(labelled_runs)
    shutil.copytree(other.tomogram_path, found.tomogram_path.with_name("wbp.zarr"))
    arguments = (labelled_runs, "--run", found.name, "--weights", small_model)
    assert run("dry-run", *arguments, *option, "--output", tmp_path / "dry")[0] == 0
    assert run("predict", *arguments, *option, "--output", tmp_path / "told.csv")[0] == 0
    assert run("predict", *arguments, "--output", tmp_path / "untold.csv")[0] == 0
    contents = [path.read_bytes() for path in (tmp_path / "dry" / "submission.csv", tmp_path / "told.csv")]
    assert contents[0] == contents[1]
    assert contents[0] != (tmp_path / "untold.csv").read_bytes()


@pytest.mark.parametrize(
    ("option", "message"),
    [(("--flips", 4), "flips are for the U-Net"), (("--own-statistics", "always"), "own statistics are for the U-Net")],
)
def test_what_is_for_a_unet_ends_without_one_with_status_2(
    run: Run, labelled_runs: Path, tmp_path: Path, option: tuple[str, object], message: str
) -> None:
    status, _, err = run("predict", labelled_runs, "--output", tmp_path / "s.csv", "--branch", "yolo", *option)
    assert status == 2
    assert_one_clear_line(err, message)


def test_own_statistics_are_taken_always_or_never_if_it_is_said_so(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    arguments = (labelled_runs, "--weights", small_model)
    contents = {}
    for verb, to, file in (("predict", ".csv", ""), ("dry-run", "", "submission.csv")):
        for choice in ("always", "never"):
            output = tmp_path / f"{choice}{to}"
            assert run(verb, *arguments, "--output", output, "--own-statistics", choice)[0] == 0
            contents[verb, choice] = (output / file).read_bytes()
    assert contents["predict", "always"] == contents["dry-run", "always"] != contents["predict", "never"]
    assert run("predict", *arguments, "--output", tmp_path / "auto.csv")[0] == 0
    assert (tmp_path / "auto.csv").read_bytes() == contents["predict", "never"]  # for want of a calibration


def test_a_denoiser_without_a_denoised_reconstruction_ends_with_status_2(run: Run, tmp_path: Path) -> None:
    status, _, err = run("simulate", tmp_path / "made", "--type", "wbp", "--denoiser", "network")
    assert status == 2
    assert_one_clear_line(err, "denoises reconstructions of the type 'denoised', got wbp alone")
    assert not (tmp_path / "made").exists()


def test_a_dry_run_leaves_out_runs_without_picks(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = sorted(path.name for path in (labelled_runs / "overlay" / "ExperimentRuns").iterdir())
    shutil.rmtree(labelled_runs / "overlay" / "ExperimentRuns" / first)
    status, _, _ = run("dry-run", labelled_runs, "--output", tmp_path / "dry", "--weights", small_model)
    assert status == 0
    assert "1 of 3 runs have no picks and are left out" in caplog.text
    picked = set(read_submission(tmp_path / "dry" / "submission.csv"))
    assert picked
    assert picked <= set(others)


def test_picks_for_other_programs_are_those_of_the_csv_with_scores(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    status, out, _ = run(
        "predict",
        labelled_runs,
        "--output",
        tmp_path / "a.csv",
        "--weights",
        small_model,
        "--picks",
        tmp_path / "picks",
    )
    assert (status, f"copick JSON: {tmp_path / 'picks'}" in out) == (0, True)
    rows = read_submission(tmp_path / "a.csv")
    written = {name: read_copick(folder) for name, folder in find_picks(tmp_path / "picks").items()}
    assert sum(len(picks) for picks in rows.values()) > 0
    assert {name: len(picks) for name, picks in written.items() if len(picks)} == {
        name: len(picks) for name, picks in rows.items()
    }
    content = json.loads(next((tmp_path / "picks").rglob("kaggle-cryoet_0_ribosome.json")).read_text())
    assert all(0 <= point["score"] <= 1 for point in content["points"])


def test_a_dry_run_without_picks_ends_with_status_2(
    run: Run, labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    shutil.rmtree(labelled_runs / "overlay")
    status, _, err = run("dry-run", labelled_runs, "--output", tmp_path / "dry", "--weights", small_model)
    assert status == 2
    assert_one_clear_line(err, "no run has picks")


def test_simulate_writes_what_predict_reads(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("simulate", tmp_path / "made", "--runs", 2, "--shape", 40, 56, 72, "--seed", 5)
    assert status == 0
    assert "2 labelled tomograms" in out
    assert [location.picks_directory is not None for location in find_runs(tmp_path / "made")] == [True, True]


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, kaggle_cryoet; print(sorted({'torch','numpy','numba','pandas','scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_module_is_the_command() -> None:
    script = [sys.executable, "-m", "kaggle_cryoet", "--version"]
    found = subprocess.run(script, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("kaggle-cryoet, version ")


def test_simulate_places_particles_where_picks_say_in_the_reconstructions_asked_for(
    run: Run, labelled_runs: Path, tmp_path: Path
) -> None:
    arguments = ("--shape", 40, 72, 88, "--picks", labelled_runs, "--type", "wbp", "--type", "denoised")
    assert run("simulate", tmp_path / "made", *arguments)[0] == 0
    made, given = find_runs(tmp_path / "made", tomogram_type="wbp"), find_runs(labelled_runs)
    assert len(made) == len(given) == 3
    for one, other in zip(made, given, strict=True):
        assert one.tomogram_path.name == "wbp.zarr"
        assert one.picks_directory is not None
        assert other.picks_directory is not None
        np.testing.assert_allclose(
            read_copick(one.picks_directory).position_zyx_angstrom,
            read_copick(other.picks_directory).position_zyx_angstrom,
            atol=0.002,
        )


def test_what_is_wrong_with_a_request_is_said_before_maps_are_read(run: Run, tmp_path: Path) -> None:
    arguments = ("--setting", "easy", "--map", f"ribosome={tmp_path / 'absent.mrc'}")
    status, _, err = run("simulate", tmp_path / "made", *arguments)
    assert status == 2
    assert_one_clear_line(err, "unknown setting 'easy'")


def test_an_interruption_is_one_line_with_the_status_of_its_signal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "simulate_tomograms", interrupted)
    status, _, err = run("simulate", tmp_path / "made", "--shape", 40, 56, 72)
    assert status == 130
    assert err.strip().splitlines()[-1] == "kaggle-cryoet: interrupted"
    assert not (tmp_path / "made").exists()


def test_a_map_that_is_not_given_as_name_and_file_ends_with_status_2(run: Run, tmp_path: Path) -> None:
    status, _, err = run("simulate", tmp_path / "made", "--map", "ribosome")
    assert status == 2
    assert_one_clear_line(err, "NAME=FILE.mrc")
    assert not (tmp_path / "made").exists()


def test_two_maps_of_one_particle_end_with_status_2(run: Run, tmp_path: Path) -> None:
    status, _, err = run("simulate", tmp_path / "made", "--map", "ribosome=a.mrc", "--map", "ribosome=b.mrc")
    assert status == 2
    assert_one_clear_line(err, "expected one map of ribosome, got a.mrc and b.mrc")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ((), SHIPPED_WEIGHTS / "unet3d"),
        (("--from", "shipped"), SHIPPED_WEIGHTS / "unet3d"),
        (("--from", "nothing"), None),
        (("--preset", "paper"), None),
        (("--from", "./mine/unet3d"), Path("mine/unet3d")),
    ],
)
def test_fine_tuning_starts_with_the_weights_of_the_package_unless_it_is_said_otherwise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], start: Path | None
) -> None:
    asked: list[Path | None] = []

    def noted(*arguments: object, start_from: Path | None, **others: object) -> None:
        asked.append(start_from)
        raise InputError("noted")

    monkeypatch.setattr(finetune, "fine_tune", noted)
    status, out, _ = run("train", "finetune", tmp_path, "--output", tmp_path / "out", "--time-limit", "60", *options)
    assert (status, asked) == (2, [start])
    assert out == f"starts with {'fresh weights' if start is None else f'the weights in {start}'}\n"


def test_submissions_of_different_tomograms_are_joined_into_one(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Picks(position_zyx_angstrom=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), label=np.array([3, 0]))
    other = Picks(position_zyx_angstrom=np.array([[7.0, 8.0, 9.0]]), label=np.array([5]))
    growing = GrowingSubmission(tmp_path / "b.csv", runs={"TS_2": "", "TS_3": ""}, key="", go_on=False)
    growing.add("TS_2", one, 1.0)
    write_submission(tmp_path / "a.csv", {"TS_1": other})
    status, out, _ = run("join", tmp_path / "b.csv", tmp_path / "a.csv", "--output", tmp_path / "all.csv")
    assert (status, out) == (0, f"3 particles in 2 tomograms: {tmp_path / 'all.csv'}\n")
    assert (tmp_path / "all.csv").read_text() == (
        "id,experiment,particle_type,x,y,z\n"
        "0,TS_1,virus-like-particle,9.000,8.000,7.000\n"
        "1,TS_2,ribosome,3.000,2.000,1.000\n"
        "2,TS_2,apo-ferritin,6.000,5.000,4.000\n"
    )
    assert "b.csv: is not finished; missing are 1, as TS_3" in caplog.text
    status, _, err = run("join", tmp_path / "all.csv", tmp_path / "a.csv", "--output", tmp_path / "more.csv")
    assert status == 2
    assert_one_clear_line(err, "a.csv: TS_1 is in another one as well")
    assert not (tmp_path / "more.csv").exists()


def test_the_branch_of_the_settings_is_taken_unless_another_is_given(
    labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(*arguments: object, settings: PickSettings, **others: object) -> Iterator[Outcome]:
        asked.append(settings.branch)
        yield from ()

    monkeypatch.setattr(pipeline, "pick_runs", noted)
    for branch, settings in (
        (None, PickSettings(branch="yolo")),
        ("hybrid", PickSettings(branch="yolo")),
        (None, None),
    ):
        run_prediction(labelled_runs, output=tmp_path / "out.csv", branch=branch, settings=settings, device="cpu")
    assert asked == ["yolo", "hybrid", "unet"]
