"""What a user knows better than files say reaches all that is trained on labelled tomograms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from kaggle_cryoet.cli import cli
from kaggle_cryoet.copick import read_copick, write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, UNET_FOLDER
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import Tomogram, read_tomogram, write_tomogram
from kaggle_cryoet.training.slice_dataset import write_slices
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume
from kaggle_cryoet.training.yolo import train_yolo

UNET = str(SHIPPED_WEIGHTS / UNET_FOLDER)


@pytest.fixture
def untold(labelled_runs: Path, tmp_path: Path) -> Path:
    """The same runs with bright particles, in files that give a voxel size of 1 Å, as if nobody had filled it in."""
    folder = tmp_path / "untold"
    for run in find_runs(labelled_runs):
        tomogram = read_tomogram(run)
        bright = Tomogram(data=-tomogram.data, voxel_angstrom=1.0, name=run.name)
        write_tomogram(folder / run.name / "VoxelSpacing1.000" / "denoised.zarr", bright, levels=1)
        assert run.picks_directory is not None
        write_copick(folder / run.name / "Picks", read_copick(run.picks_directory), run.name)
    return folder


def test_labelled_tomograms_are_those_of_files_that_say_all(labelled_runs: Path, untold: Path) -> None:
    told = AdaptSettings(tone="bright", voxel_angstrom=10.012, tilt_axis="y")
    with pytest.raises(InputError, match=r"expected one in the file, or --voxel"):
        load_labelled_volume(find_labelled_runs([untold])[0])
    for run, other in zip(find_labelled_runs([labelled_runs]), find_labelled_runs([untold]), strict=True):
        expected, found = (
            load_labelled_volume(run, adapt=AdaptSettings(tilt_axis="y")),
            load_labelled_volume(other, adapt=told),
        )
        np.testing.assert_array_equal(found.volume, expected.volume)
        np.testing.assert_array_equal(found.picks.position_zyx_angstrom, expected.picks.position_zyx_angstrom)
        assert found.voxel_angstrom == 10.012


def test_a_network_trained_on_them_is_the_same(labelled_runs: Path, untold: Path, tmp_path: Path) -> None:
    usual = (
        "--epochs 1 --device cpu --tilt-axis y --voxel 10.012 --set length.crops_per_epoch=2 --set length.batch_size=2"
    )
    options = [*usual.split(), "--set", "crops.shape_zyx=[32,32,32]", "--from", UNET]
    weights = []
    for folder, tone in ((labelled_runs, "dark"), (untold, "bright")):
        output = tmp_path / f"run-{tone}"
        arguments = ["train", "unet", str(folder), "--output", str(output), "--particles", tone]
        CliRunner().invoke(cli, [*arguments, *options], catch_exceptions=False)
        weights.append(load_unet(output / UNET_FOLDER).network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    started = load_unet(UNET).network.state_dict()
    assert any(not torch.equal(weights[0][name], started[name]) for name in started)


@pytest.mark.parametrize(
    "verb",
    [
        "train unet --epochs 1 --output new",
        "train finetune --time-limit 60 --output new",
        "train yolo --epochs 1 --output new",
        "slices --output new",
        f"train thresholds --weights {UNET}",
        f"train hybrid --weights {SHIPPED_WEIGHTS} --output new",
    ],
    ids=lambda verb: " ".join(verb.split()[:2]),
)
def test_every_verb_is_told(labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, [*verb.split(), str(labelled_runs), "--voxel", "5"])  # half as large
    assert isinstance(done.exception, InputError)
    assert "lie outside" in str(done.exception)


def test_slices_that_are_written_are_as_they_are(labelled_runs: Path, tmp_path: Path) -> None:
    write_slices([labelled_runs], tmp_path / "slices")
    with pytest.raises(InputError, match=r"is a folder of slices; how tomograms are read, `slices` had to be told"):
        train_yolo([tmp_path / "slices"], tmp_path / "run", adapt=AdaptSettings(tone="bright"))
