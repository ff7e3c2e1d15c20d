"""What is shown of a detector: confusions of types, curves over the epochs, detections in slices."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from spheres import cut_spheres

from kaggle_cryoet.cli import cli
from kaggle_cryoet.copick import read_copick, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.confusion import confusion_json, confusion_of_runs, shares_of_rows, write_confusion
from kaggle_cryoet.report.detection_pictures import draw_detections
from kaggle_cryoet.report.detector_curves import draw_detector_curves, read_results
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.submission import write_submission
from kaggle_cryoet.tomogram import Tomogram

APO, AMYLASE, GALACTOSIDASE, RIBOSOME, THYROGLOBULIN, VIRUS = range(6)
BACKGROUND = 6


def picks(*rows):
    """Picks of rows (label, z, y, x)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Picks(position_zyx_angstrom=table[:, 1:], label=table[:, 0].astype(np.int64))


TRUTH = {
    "a": picks((APO, 0, 0, 0), (APO, 0, 500, 0), (APO, 0, 0, 500), (RIBOSOME, 900, 0, 0)),
    "b": picks((APO, 0, 0, 0), (THYROGLOBULIN, 500, 500, 0)),
}
FOUND = {
    "a": picks((APO, 0, 0, 20), (AMYLASE, 0, 500, 10), (RIBOSOME, 900, 60, 0), (VIRUS, 2000, 0, 0)),
}


# --- confusions ---


def test_confusions_are_counted_over_all_runs_and_what_is_not_found_is_missed():
    matrix = confusion_of_runs(FOUND, TRUTH)
    expected = np.zeros((7, 7), dtype=np.int64)
    expected[APO, [APO, AMYLASE, BACKGROUND]] = 1, 1, 2
    expected[RIBOSOME, RIBOSOME] = expected[THYROGLOBULIN, BACKGROUND] = expected[BACKGROUND, VIRUS] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_shares_are_those_of_each_row():
    shares = shares_of_rows(confusion_of_runs(FOUND, TRUTH))
    np.testing.assert_allclose(shares[APO, [APO, AMYLASE, BACKGROUND]], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(shares.sum(axis=1), [1, 0, 0, 1, 1, 0, 1])


def test_the_command_writes_numbers_and_pictures_of_any_submission(tmp_path: Path):
    write_submission(tmp_path / "submission.csv", FOUND)
    for run, reference in TRUTH.items():
        write_copick(tmp_path / "truth" / run / "Picks", reference, run)
    files = ["--submission", str(tmp_path / "submission.csv"), "--truth", str(tmp_path / "truth")]
    for name in ("confusion.json", "confusion.png"):
        done = CliRunner().invoke(cli, ["confusion", *files, "--output", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    rows = {line[:20].strip(): line[20:].split() for line in done.output.splitlines()[1:]}
    assert list(rows) == [*PARTICLE_NAMES, "background"]
    assert rows["apo-ferritin"] == ["0.250", "0.250", "0.000", "0.000", "0.000", "0.000", "0.500", "4"]
    content = json.loads((tmp_path / "confusion.json").read_text())
    assert content == confusion_json(confusion_of_runs(FOUND, TRUTH))
    assert content["classes"][BACKGROUND] == "background"
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_confusions_are_written_as_png_or_json_only(tmp_path: Path):
    with pytest.raises(InputError, match=r"ends in \.png or \.json"):
        write_confusion(np.zeros((7, 7), dtype=np.int64), tmp_path / "confusion.txt")


# --- curves ---

HEADER = (
    "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),"
    "metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0\n"
)
ROWS = ["1,10,3,5,2,0.5,0.1,0.2,0.1,4,6,3,0.001\n", "2,20,2,4,1,0.6,0.2,0.3,0.15,3,5,2,0.002\n"]


def test_curves_hold_the_values_of_the_table_and_of_an_epoch_begun_twice_the_later(tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + ROWS[0] + ROWS[1].replace("0.6", "0.9") + ROWS[1])
    rows = read_results(path)
    assert [row["metrics/precision(B)"] for row in rows] == [0.5, 0.6]
    panels = {axes.get_title(loc="left"): axes for axes in draw_detector_curves(rows).axes}
    expected = {"precision": [0.5, 0.6], "recall": [0.1, 0.2], "mAP50": [0.2, 0.3], "mAP50-95": [0.1, 0.15]}
    for title, values in expected.items():
        (line,) = panels[title].get_lines()
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), values)
    drawn = {line.get_label(): list(line.get_ydata()) for line in panels["losses, validation"].get_lines()}
    assert drawn == {"box": [4, 3], "cls": [6, 5], "dfl": [3, 2]}


def test_one_epoch_is_a_point_of_its_own_mark_for_each_loss_over_whole_epochs(tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text(HEADER + ROWS[0])
    figure = draw_detector_curves(read_results(path))
    figure.canvas.draw()
    for axes in figure.axes:
        assert all(label.get_text().isdigit() for label in axes.get_xticklabels())
    losses = next(axes for axes in figure.axes if axes.get_title(loc="left") == "losses, training")
    assert len({line.get_marker() for line in losses.get_lines()} - {"", "None"}) == 3


def test_the_command_draws_the_curves_of_a_model_folder(tmp_path: Path):
    (tmp_path / "yolo11" / "training").mkdir(parents=True)
    (tmp_path / "yolo11" / "training" / "results.csv").write_text(HEADER + ROWS[0])
    done = CliRunner().invoke(cli, ["curves", str(tmp_path / "yolo11"), "--output", str(tmp_path / "curves.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("text", "said"), [("", "has no row"), ("epoch,loss\n1,2\n", "lacks the column")])
def test_tables_of_something_else_are_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_results(tmp_path / "results.csv")


# --- detections ---


def test_detections_are_drawn_and_counted_slice_by_slice(tmp_path: Path):
    voxel = 10.0
    tomogram = Tomogram(
        data=np.random.default_rng(0).normal(size=(40, 50, 60)).astype(np.float32), voxel_angstrom=voxel, name="a"
    )
    truth = picks((RIBOSOME, 100, 250, 200), (APO, 300, 400, 500))
    detections = Detections(
        index_zyx=np.array([[9.0, 25.0, 20.0], [9.0, 40.0, 50.0], [10.0, 25.0, 20.0]]),
        label=np.array([RIBOSOME, APO, RIBOSOME]),
        confidence=np.array([0.9, 0.5, 0.8]),
        diameter_voxels=np.array([[30.0, 30.0], [12.0, 12.0], [30.0, 30.0]]),
        slices=np.arange(40),
    )
    counts = draw_detections(tomogram, detections, truth, output=tmp_path / "pictures", count=2)
    assert [path.name for path in counts] == ["a_z009.png", "a_z029.png"]
    below, above = counts.values()
    assert below.found.label.tolist() == [RIBOSOME, APO]
    assert below.found_is_false.tolist() == [False, True]  # the apo-ferritin is 20 voxels higher
    assert below.shown is not None
    assert below.shown.label.tolist() == [RIBOSOME]
    assert len(above.found) == 0
    assert above.shown_is_hit is not None
    assert above.shown_is_hit.tolist() == [False]
    for path in counts:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_detected_is_a_picture_without_circles(tmp_path: Path):
    tomogram = Tomogram(
        data=np.random.default_rng(0).normal(size=(8, 50, 60)).astype(np.float32), voxel_angstrom=10.0, name="a"
    )
    nothing = Detections(
        index_zyx=np.empty((0, 3)),
        label=np.empty(0, dtype=np.int64),
        confidence=np.empty(0),
        diameter_voxels=np.empty((0, 2)),
        slices=np.arange(8),
    )
    (count,) = draw_detections(tomogram, nothing, None, output=tmp_path, count=1).values()
    assert len(count.found) == 0
    assert count.shown is None


def test_the_command_looks_at_every_slice_so_that_whatever_it_draws_was_looked_at(
    labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = find_runs(labelled_runs)[0]
    truth = read_copick(run.picks_directory)

    def perfect(network, volume, settings, *_):
        first = (len(volume) - 1) % settings.stride_z // 2
        return cut_spheres(truth, np.arange(first, len(volume), settings.stride_z))

    monkeypatch.setattr("kaggle_cryoet.picking.detect.detect", perfect)
    arguments = ["detections", str(labelled_runs), "--output", str(tmp_path / "pictures"), "--count", "10"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert len(list((tmp_path / "pictures").glob(f"{run.name}_z*.png"))) == 10
    sums = [line.split() for line in done.output.splitlines() if line.startswith("all")]
    assert len(sums) == 10
    shown, hit = (sum(int(row[column]) for row in sums) for column in (2, 3))
    assert hit == shown > 10
