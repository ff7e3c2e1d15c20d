"""Slices for a detector: boxes as a slice cuts spheres, images as picking sees them, folders whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from label_lines import boxes_of_lines

from kaggle_cryoet.cli import cli
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picking.equalise import equalise, mean_spectrum
from kaggle_cryoet.picking.slices import slice_image, to_levels
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import read_tomogram, write_tomogram
from kaggle_cryoet.training import slice_dataset
from kaggle_cryoet.training.slice_boxes import boxes_in_slice, yolo_lines
from kaggle_cryoet.training.slice_dataset import SliceSettings, tile_starts, write_slices
from kaggle_cryoet.training.slice_folder import read_slice_folder, write_data_yaml
from kaggle_cryoet.training.volumes import load_labelled_volume

VOXEL = 10.0
SHAPE = (50, 70, 90)


def picks(*rows):
    """Picks of rows (label, z, y, x) in voxels."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Picks(position_zyx_angstrom=table[:, 1:] * VOXEL, label=table[:, 0].astype(np.int64))


def boxes(found, z, *, origin=(0, 0), shape=SHAPE[1:]):
    return boxes_in_slice(found, z, voxel_angstrom=VOXEL, origin_yx=origin, shape_yx=shape)


# --- boxes ---


def test_a_box_is_as_wide_as_the_circle_in_which_the_slice_cuts_the_sphere():
    ribosome = picks((3, 20, 30, 40))  # radius 15 voxels
    across, nearer_the_pole = boxes(ribosome, 20), boxes(ribosome, 29)
    assert across.label.tolist() == [3]
    np.testing.assert_allclose(across.centre_yx, [[30.5, 40.5]])
    np.testing.assert_allclose(across.size_yx, [[30, 30]])
    np.testing.assert_allclose(nearer_the_pole.size_yx, [[24, 24]])  # 15² - 9² = 12²


def test_boxes_are_those_of_spheres_drawn_voxel_by_voxel():
    rng = np.random.default_rng(4)
    fine = 8  # steps per voxel in y and x
    y, x = (np.arange(n * fine) / fine + 0.5 / fine - 0.5 for n in SHAPE[1:])
    for _ in range(20):
        label = int(rng.integers(6))
        centre = rng.uniform([0, 0, 0], np.array(SHAPE) - 1)
        radius = PARTICLES[label].radius_angstrom / VOXEL
        z = int(rng.integers(SHAPE[0]))
        inside = (z - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2
        found = boxes(picks((label, *centre)), z)
        assert bool(len(found)) == (abs(z - centre[0]) <= np.sqrt(0.75) * radius)
        if len(found):
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            low = np.array([rows[0], columns[0]]) / fine
            high = np.array([rows[-1] + 1, columns[-1] + 1]) / fine
            np.testing.assert_allclose(found.centre_yx[0], (low + high) / 2, atol=2 / fine)
            np.testing.assert_allclose(found.size_yx[0], high - low, atol=3 / fine)


def test_what_hardly_reaches_into_a_tile_has_no_box_there():
    ribosome = picks((3, 20, 30, 40))
    assert len(boxes(ribosome, 20, origin=(0, 50), shape=(70, 40))) == 0  # 5 of 30 pixels
    half = boxes(ribosome, 20, origin=(0, 40), shape=(70, 40))
    np.testing.assert_allclose(half.centre_yx, [[30.5, 7.75]])
    np.testing.assert_allclose(half.size_yx, [[30, 15.5]])


def test_a_particle_in_a_corner_of_the_tomogram_keeps_its_box():
    assert len(boxes(picks((5, 20, 0, 0)), 20)) == 1


def test_lines_of_a_label_file_give_the_boxes_back():
    before = boxes(picks((0, 20, 30, 40), (4, 22, 50.3, 61.2), (3, 18, 5, 80)), 20)
    text = yolo_lines(before, (70, 90))
    assert text.splitlines()[0] == "0 0.450000 0.435714 0.133333 0.171429"
    after = boxes_of_lines(text, (70, 90))
    assert after.label.tolist() == before.label.tolist()
    np.testing.assert_allclose(after.centre_yx, before.centre_yx, atol=1e-4)
    np.testing.assert_allclose(after.size_yx, before.size_yx, atol=1e-4)
    assert len(boxes_of_lines("", (70, 90))) == 0


@pytest.mark.parametrize(("edge", "tile", "expected"), [(88, 320, [0]), (630, 320, [0, 310]), (96, 32, [0, 32, 64])])
def test_tiles_cover_an_edge(edge, tile, expected):
    assert tile_starts(edge, tile) == expected
    assert set(range(edge)) <= {start + i for start in expected for i in range(tile)}


# --- the folder ---


def settings(**changes):
    return SliceSettings(**{"every": 8, "plain_share": 0.5, **changes})


def read(path):
    """`(channels, y, x)` of a PNG, red first."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image[None] if image.ndim == 2 else image[..., ::-1].transpose(2, 0, 1)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_are_what_picking_sees_and_boxes_are_those_of_the_picks(labelled_runs: Path, tmp_path: Path):
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings())
    folder = read_slice_folder(path.parent)
    names = [run.name for run in find_runs(labelled_runs)]
    assert folder.runs == {"train": names[:2], "val": names[2:]}
    assert replace(folder.image, spectrum=()) == YoloSettings()
    trained_on = [load_labelled_volume(run).volume.astype(np.float32) for run in find_runs(labelled_runs)[:2]]
    np.testing.assert_allclose(folder.image.spectrum, mean_spectrum(trained_on))
    assert folder.longest_edge_pixels == 88
    plain = 0
    for part, runs in folder.runs.items():
        for run in runs:
            location = next(one for one in find_runs(labelled_runs) if one.name == run)
            volume = load_labelled_volume(location)
            levels = to_levels(volume.volume, YoloSettings())
            images = sorted((path.parent / "images" / part / run).glob("*.png"))
            heights = sorted({int(image.name[1:4]) for image in images})
            assert heights == list(range(heights[0], 40, 8))
            for image in images:
                z = int(image.name[1:4])
                seen = slice_image(levels, z, YoloSettings())
                is_plain = image.stem.endswith("plain")
                np.testing.assert_array_equal(read(image), seen[1:2] if is_plain else seen)
                text = (path.parent / "labels" / part / run / f"{image.stem}.txt").read_text()
                expected = boxes_in_slice(
                    volume.picks, z, voxel_angstrom=volume.voxel_angstrom, origin_yx=(0, 0), shape_yx=(72, 88)
                )
                assert text == yolo_lines(expected, (72, 88))
                plain += is_plain
                assert not (is_plain and part == "val")
    assert 0 < plain < 10


def test_large_slices_are_cut_into_tiles_at_their_own_scale(labelled_runs: Path, tmp_path: Path):
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings(tile_pixels=48, plain_share=0.0))
    run = find_runs(labelled_runs)[0]
    levels = to_levels(load_labelled_volume(run).volume, YoloSettings())
    tiles = sorted((path.parent / "images" / "train" / run.name).glob("*.png"))
    places = {(int(tile.name[6:9]), int(tile.name[11:14])) for tile in tiles}
    assert places == {(0, 0), (0, 40), (24, 0), (24, 40)}
    for tile in tiles:
        z, y, x = (int(tile.name[start : start + 3]) for start in (1, 6, 11))
        expected = slice_image(levels, z, YoloSettings())[:, y : y + 48, x : x + 48]
        np.testing.assert_array_equal(read(tile), expected)


def test_without_neighbours_images_have_one_channel(labelled_runs: Path, tmp_path: Path):
    image = YoloSettings(neighbour_voxels=0)
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings(image=image))
    assert read_slice_folder(path.parent).image.neighbour_voxels == 0
    assert {read(png).shape for png in (path.parent / "images").rglob("*.png")} == {(1, 72, 88)}


def test_an_interrupted_folder_is_completed_to_the_same(labelled_runs: Path, tmp_path: Path):
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings())
    whole = contents(path.parent)
    run = find_runs(labelled_runs)[1].name
    for png in (path.parent / "images" / "train" / run).iterdir():
        png.unlink()
    (path.parent / "images" / "train" / run).rmdir()  # its labels are there, as if interrupted between the two
    path.unlink()
    with pytest.raises(InputError, match=r"data\.yaml: is missing"):
        read_slice_folder(path.parent)
    kept = path.parent / "images" / "train" / find_runs(labelled_runs)[0].name
    before = kept.stat().st_mtime_ns
    write_slices([labelled_runs], tmp_path / "slices", settings=settings())
    assert contents(path.parent) == whole
    assert kept.stat().st_mtime_ns == before


def test_a_run_that_would_change_its_part_is_told(labelled_runs: Path, tmp_path: Path):
    runs = [run.tomogram_path.parents[1] for run in find_runs(labelled_runs)]
    names = [run.name for run in runs]
    write_slices(runs[:2], tmp_path / "slices", settings=settings())
    with pytest.raises(InputError, match=f"run {names[1]} was for val and would be for train; tell which are for val"):
        write_slices(runs, tmp_path / "slices", settings=settings())
    with pytest.raises(InputError, match=f"run {names[0]} was for train and is not in it now"):
        write_slices(runs[1:], tmp_path / "slices", settings=settings())
    path = write_slices([runs[0], runs[2]], tmp_path / "slices", validation_directories=[runs[1]], settings=settings())
    assert read_slice_folder(path.parent).runs == {"train": [names[0], names[2]], "val": [names[1]]}


def test_what_a_folder_of_slices_is_told_from_another_by(labelled_runs: Path, tmp_path: Path):
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings())
    before = read_slice_folder(path.parent)
    assert not before.equalised
    moved = path.parent.rename(tmp_path / "moved")
    assert read_slice_folder(moved).digest == before.digest
    description = moved / "data.yaml"
    description.write_text(description.read_text().replace("equalised: false", "equalised: true"))
    assert read_slice_folder(moved).digest != before.digest
    description.write_text(description.read_text().replace("equalised: true", "equalised: false"))
    image = next((moved / "images" / "train").rglob("*.png"))
    image.rename(image.with_name("z999_y000_x000.png"))
    other = read_slice_folder(moved).digest
    label = next(path for path in (moved / "labels").rglob("*.txt") if path.read_text())
    label.write_text(label.read_text().replace("0.", "0.1", 1))
    assert len({before.digest, other, read_slice_folder(moved).digest}) == 3


def test_a_folder_of_another_request_is_refused(labelled_runs: Path, tmp_path: Path):
    output = tmp_path / "slices"
    write_slices([labelled_runs], output, settings=settings())
    with pytest.raises(InputError, match="another request"):
        write_slices([labelled_runs], output, settings=settings(every=4))
    picks = find_runs(labelled_runs)[1].picks_directory
    assert picks is not None
    next(picks.glob("*ribosome*")).rename(tmp_path / "ribosome.json")  # a run of the same name, but another one
    with pytest.raises(InputError, match=f"run {find_runs(labelled_runs)[1].name} had other picks"):
        write_slices([labelled_runs], output, settings=settings())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no slices"):
        write_slices([labelled_runs], tmp_path / "other", settings=settings())


def test_a_folder_is_unfinished_while_it_grows_and_equalised_ones_do_not(
    labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second, third = find_runs(labelled_runs)
    runs = [run.tomogram_path.parents[1] for run in (first, second, third)]

    def write(*data: Path, **changes: object) -> Path:
        output = tmp_path / ("equalised" if changes else "slices")
        return write_slices(data, output, validation_directories=[runs[2]], settings=settings(**changes))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = write(runs[0])
    with monkeypatch.context() as patch:
        patch.setattr(slice_dataset, "_write_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(*runs[:2])
    with pytest.raises(InputError, match=r"data\.yaml: is missing"):
        read_slice_folder(path.parent)
    assert read_slice_folder(write(*runs[:2]).parent).runs["train"] == [first.name, second.name]
    write(runs[0], equalise=True)
    with pytest.raises(InputError, match="equalised to the spectrum of fewer runs"):
        write(*runs[:2], equalise=True)


def test_validation_directories_hold_all_of_the_validation(labelled_runs: Path, tmp_path: Path):
    runs = labelled_runs / "static" / "ExperimentRuns"
    names = [run.name for run in find_runs(labelled_runs)]
    with pytest.raises(InputError, match="got twice"):
        write_slices([runs], tmp_path / "slices", validation_directories=[runs / names[0]], settings=settings())
    with pytest.raises(InputError, match="got twice"):
        write_slices([runs, runs / names[0]], tmp_path / "slices", settings=settings())
    path = write_slices(
        [runs / names[1], runs / names[2]],
        tmp_path / "slices",
        validation_directories=[runs / names[0]],
        settings=settings(),
    )
    assert json.loads((path.parent / "request.json").read_text())["runs"] == {
        names[1]: "train",
        names[2]: "train",
        names[0]: "val",
    }


def test_equalised_slices_are_what_prediction_shows_and_plain_ones_stay_as_they_are(
    labelled_runs: Path, tmp_path: Path
):
    path = write_slices([labelled_runs], tmp_path / "slices", settings=settings(equalise=True))
    folder = read_slice_folder(path.parent)
    assert folder.equalised
    plain = 0
    for part, runs in folder.runs.items():
        for run in runs:
            location = next(one for one in find_runs(labelled_runs) if one.name == run)
            as_it_is = load_labelled_volume(location).volume.astype(np.float32)
            shown = to_levels(equalise(as_it_is, folder.image.spectrum), YoloSettings())
            for image in sorted((path.parent / "images" / part / run).glob("*.png")):
                z = int(image.name[1:4])
                if image.stem.endswith("plain"):
                    np.testing.assert_array_equal(read(image)[0], to_levels(as_it_is, YoloSettings())[z])
                    plain += 1
                else:
                    np.testing.assert_array_equal(read(image), slice_image(shown, z, YoloSettings()))
    assert plain > 0


def test_further_reconstructions_are_taken_of_a_share_of_the_runs(labelled_runs: Path, tmp_path: Path):
    runs = find_runs(labelled_runs)
    names = [run.name for run in runs]
    for run in runs:
        tomogram = read_tomogram(run)
        for further, scale in (("wbp", -1), ("isonetcorrected", 1)):
            changed = replace(tomogram, data=scale * tomogram.data**3)
            write_tomogram(run.tomogram_path.with_name(f"{further}.zarr"), changed, levels=1)
    taken = settings(tomogram_types=("denoised", "wbp", "isonetcorrected@0.4"), plain_share=0.0)
    path = write_slices([labelled_runs], tmp_path / "slices", settings=taken)
    assert read_slice_folder(path.parent).runs == {
        "train": [names[0], f"{names[0]}.isonetcorrected", f"{names[0]}.wbp", names[1], f"{names[1]}.wbp"],
        "val": [names[2]],  # of which nothing is trained on
    }
    levels = to_levels(
        load_labelled_volume(replace(runs[1], tomogram_path=runs[1].tomogram_path.with_name("wbp.zarr"))).volume,
        YoloSettings(),
    )
    images = sorted((path.parent / "images" / "train" / f"{names[1]}.wbp").glob("*.png"))
    assert len(images) == 5
    for image in images:
        np.testing.assert_array_equal(read(image), slice_image(levels, int(image.name[1:4]), YoloSettings()))
    write_slices([labelled_runs], tmp_path / "slices", settings=taken)  # the same request, once more
    with pytest.raises(InputError, match="'wpb'; there are denoised"):
        write_slices([labelled_runs], tmp_path / "other", settings=settings(tomogram_types=("denoised", "wpb")))
    with pytest.raises(InputError, match="written once"):
        write_slices([f"{labelled_runs}@3"], tmp_path / "other", settings=settings())


def test_one_run_alone_leaves_none_to_validate_on(labelled_runs: Path, tmp_path: Path):
    run = find_runs(labelled_runs)[0].name
    with pytest.raises(InputError, match="leaves none"):
        write_slices([labelled_runs / "static" / "ExperimentRuns" / run], tmp_path / "slices")


def test_a_folder_for_other_classes_is_refused(tmp_path: Path):
    path = write_data_yaml(tmp_path, YoloSettings(), equalised=False)
    text = path.read_text()
    path.write_text(text.replace("ribosome", "proteasome"))
    with pytest.raises(InputError, match=r"its classes are .*proteasome"):
        read_slice_folder(tmp_path)
    swapped = text.replace(PARTICLE_NAMES[0], "x").replace(PARTICLE_NAMES[1], PARTICLE_NAMES[0])
    path.write_text(swapped.replace(": x", f": {PARTICLE_NAMES[1]}"))
    with pytest.raises(InputError, match="its classes are beta-amylase, apo-ferritin"):
        read_slice_folder(tmp_path)
    path.write_text(text)
    with pytest.raises(InputError, match="holds no PNG images"):
        read_slice_folder(tmp_path)
    path.write_text("names: [")
    with pytest.raises(InputError, match="not a description of slices"):
        read_slice_folder(tmp_path)


@pytest.mark.parametrize("bad", [{"every": 0}, {"plain_share": 1.5}, {"tile_pixels": 8}, {"least_cut": 0.0}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(InputError):
        SliceSettings(**bad)


def test_the_command_writes_what_the_function_writes(labelled_runs: Path, tmp_path: Path):
    options = ["--every", "8", "--neighbour", "3", "--plain-share", "0.5", "--tile", "64", "--seed", "7"]
    done = CliRunner().invoke(cli, ["slices", str(labelled_runs), "--output", str(tmp_path / "a"), *options])
    assert done.exit_code == 0, done.output
    assert f"slices: {tmp_path / 'a' / 'data.yaml'}\n" in done.output
    image = YoloSettings(neighbour_voxels=3)
    write_slices([labelled_runs], tmp_path / "b", settings=settings(image=image, tile_pixels=64, seed=7))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
