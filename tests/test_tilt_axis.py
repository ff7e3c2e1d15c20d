"""Tomograms of tilt series about x: told by the missing wedge, and picked and trained on as if about y."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet import predict
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picking.tilt_axis import EMPTY, LEAST_CONTRAST, facing_y, tilt_axis_of, wedge_power
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.calibration_slices import CROP_FILE
from kaggle_cryoet.simulation.dataset import simulate_tomograms
from kaggle_cryoet.simulation.run_folder import write_run
from kaggle_cryoet.submission import write_submission
from kaggle_cryoet.tomogram import Tomogram
from kaggle_cryoet.training.hard_negatives import with_hard_places
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume

SHAPE = (64, 96, 120)
TYPES = ("denoised", "wbp", "ctfdeconvolved", "isonetcorrected")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A labelled run, and the same with y and x exchanged."""
    tomograms, picks, _ = simulate_tomograms("TS_1", seed=21, shape_zyx=SHAPE)
    data = tomograms["denoised"].data
    about = {"y": (data, picks), "x": (data.swapaxes(1, 2), picks.with_y_and_x_exchanged())}
    root = tmp_path_factory.mktemp("tilted")
    for axis, (volume, true) in about.items():
        tomogram = Tomogram(data=volume, voxel_angstrom=CZII_VOXEL_ANGSTROM, name="TS_1")
        write_run(root / axis, "TS_1", {"denoised": tomogram}, true, {})
    return root / "y", root / "x"


def test_the_axis_of_simulated_tilt_series_is_told() -> None:
    told: dict[str, list[tuple[str | None, str | None]]] = {name: [] for name in TYPES}
    for seed in range(6):
        tomograms, _, _ = simulate_tomograms("a", seed=(3, seed), shape_zyx=(96, 136, 160), tomogram_types=TYPES)
        for name, tomogram in tomograms.items():
            told[name].append((tilt_axis_of(tomogram.data), tilt_axis_of(tomogram.data.swapaxes(1, 2))))
    assert told["wbp"] == told["ctfdeconvolved"] == [("y", "x")] * 6
    for name in ("denoised", "isonetcorrected"):
        assert set(told[name]) <= {("y", "x"), (None, None)}  # never the wrong one
    assert told["denoised"].count(("y", "x")) >= 5
    assert told["isonetcorrected"].count((None, None)) >= 4  # its wedge is filled


def test_the_real_slices_show_that_they_were_tilted_about_y() -> None:
    directory = os.environ.get("CRYOET_SHARED")
    if directory is None or not (Path(directory) / "data" / CROP_FILE).is_file():
        pytest.skip("CRYOET_SHARED does not name a directory with the real slices in data/real")
    with np.load(Path(directory) / "data" / CROP_FILE) as crops:
        about_y, about_x = (
            wedge_power(np.stack([crops[name] for name in crops.files if name.startswith(plane)]).astype(np.float32))
            for plane in ("xz", "yz")
        )
    assert about_y < EMPTY / 10
    assert about_x > 5 * LEAST_CONTRAST * about_y


def test_nothing_is_told_of_volumes_without_a_wedge() -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert tilt_axis_of(noise) is None
    assert tilt_axis_of(np.ones(SHAPE, dtype=np.float32)) is None
    assert tilt_axis_of(noise[:10]) is None


def test_a_wedge_that_is_cut_out_is_found_about_its_axis() -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    kz, ky, kx = np.fft.fftfreq(64)[:, None, None], np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(120)
    for axis, across in (("y", kx), ("x", ky)):
        spectrum = np.fft.rfftn(noise) * (np.abs(kz) <= np.abs(across) + 0 * ky)
        assert tilt_axis_of(np.fft.irfftn(spectrum, SHAPE, axes=(0, 1, 2)).astype(np.float32)) == axis


def test_positions_follow_the_voxels(caplog: pytest.LogCaptureFixture) -> None:
    data = np.zeros(SHAPE, dtype=np.float32)
    data[10, 20, 70] = 1.0
    picks = Picks(position_zyx_angstrom=np.array([[100.0, 200.0, 700.0]]), label=np.array([3]), score=np.array([0.4]))
    tomogram = Tomogram(data=data, voxel_angstrom=10.0, name="TS_1")
    turned, exchanged = facing_y(tomogram, "x")
    assert exchanged
    assert turned.data.shape == (64, 120, 96)
    assert turned.data.flags.c_contiguous
    found = picks.with_y_and_x_exchanged()
    assert turned.data[tuple((found.position_zyx_angstrom[0] / 10).astype(int))] == 1.0
    assert (found.label[0], found.score[0]) == (3, 0.4)
    same, exchanged = facing_y(tomogram, "y")
    assert same is tomogram
    assert not exchanged
    assert not caplog.records  # a user who says so need not be told


def test_picks_are_those_of_the_same_specimen_tilted_about_y(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about_y = predict(folders[0], tmp_path / "y.csv", device="cpu")
    with caplog.at_level(logging.WARNING):
        about_x = predict(folders[1], tmp_path / "x.csv", device="cpu")
    assert "TS_1: seems to have been tilted about x" in caplog.text
    assert len(about_y) > 1
    for column, other in (("z", "z"), ("y", "x"), ("x", "y"), ("particle_type", "particle_type")):
        np.testing.assert_array_equal(about_x[column], about_y[other])
    told = PickSettings(adapt=AdaptSettings(tilt_axis="y"))
    untouched = predict(folders[1], tmp_path / "told.csv", device="cpu", settings=told)
    assert not untouched.equals(about_x)


def test_training_sees_them_alike_with_hard_negatives(folders: tuple[Path, Path], tmp_path: Path) -> None:
    about_y, about_x = (load_labelled_volume(find_labelled_runs([folder])[0]) for folder in folders)
    np.testing.assert_array_equal(about_x.volume, about_y.volume)
    np.testing.assert_array_equal(about_x.picks.position_zyx_angstrom, about_y.picks.position_zyx_angstrom)
    assert (about_x.exchanged, about_y.exchanged) == (True, False)
    nothing_there = Picks(position_zyx_angstrom=np.array([[15.0, 25.0, 985.0]]), label=np.array([3]))
    write_submission(tmp_path / "y.csv", {"TS_1": nothing_there})
    write_submission(tmp_path / "x.csv", {"TS_1": nothing_there.with_y_and_x_exchanged()})
    hard = [
        with_hard_places([volume], tmp_path / f"{axis}.csv")[0].hard_zyx_angstrom
        for axis, volume in (("y", about_y), ("x", about_x))
    ]
    np.testing.assert_array_equal(*hard)
    np.testing.assert_allclose(hard[0], nothing_there.position_zyx_angstrom)


@pytest.mark.parametrize(("left", "axis"), [(0.05, "y"), (0.15, None)])
def test_a_wedge_must_be_nearly_empty(left: float, axis: str | None) -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    kz, kx = np.fft.fftfreq(64)[:, None, None], np.fft.rfftfreq(120)
    recorded = np.abs(kz) <= np.abs(kx)
    spectrum = np.fft.rfftn(noise) * np.where(recorded, 1.0, left**0.5)
    assert tilt_axis_of(np.fft.irfftn(spectrum, SHAPE, axes=(0, 1, 2)).astype(np.float32)) == axis


def test_what_is_nearly_as_empty_about_both_axes_tells_none() -> None:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    kz, ky, kx = np.fft.fftfreq(64)[:, None, None], np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(120)
    flat = np.exp(-80 * kz**2) + 0 * (kx + ky)  # blurred along z, the same about every axis
    for least in (np.abs(kx), 1.15 * np.abs(kx) + 0 * ky):
        spectrum = np.fft.rfftn(noise) * flat * (1 - 0.5 * (np.abs(kz) > least))
        volume = np.fft.irfftn(spectrum, SHAPE, axes=(0, 1, 2)).astype(np.float32)
        assert tilt_axis_of(volume) is None
