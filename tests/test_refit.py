"""Thresholds fitted anew: those that the fit gives, written beside weights that stay as they are."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from one_tomogram import pick_tomogram

from kaggle_cryoet.cli import cli
from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.store import YoloModel, load_unet, load_yolo, save_unet, save_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.pickers import YoloPicker
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.runs import find_picks, find_runs
from kaggle_cryoet.tomogram import RunLocation
from kaggle_cryoet.training import refit
from kaggle_cryoet.training.module import above_thresholds, predict_candidates
from kaggle_cryoet.training.refit import refit_thresholds
from kaggle_cryoet.training.volumes import LabelledVolume, load_labelled_volume


def test_thresholds_of_a_detector_are_fitted_to_its_joined_slices(labelled_runs: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings = YoloSettings()
    network = build_yolo(settings).eval()
    for branch in network.model[-1].cv3:
        branch[-1].bias.data += 4  # random as it is, it finds something everywhere
    folder = tmp_path / "yolo11"
    before = YoloModel(network=network, settings=settings, thresholds=(0.25,) * 6, provenance={"seed": 3})
    save_yolo(folder, before)
    (folder / "training").mkdir()
    (folder / "training" / "results.csv").write_text("epoch\n")
    pick = PickSettings(detect=DetectSettings(stride_z=4), strict=True)
    fit = refit_thresholds(folder, [labelled_runs], settings=pick, device="cpu")
    thresholds, score = fit.thresholds, fit.score
    after = load_yolo(folder)
    assert after.thresholds == thresholds != before.thresholds
    assert after.calibration is not None
    assert after.provenance["seed"] == 3
    assert after.provenance["thresholds_fitted_on"]["score"] == score.to_json_dict()
    assert (folder / "training" / "results.csv").is_file()
    picker = YoloPicker(model=after)
    found, truth = {}, {}
    for run in find_runs(labelled_runs):
        volume = load_labelled_volume(run)
        grey = volume.volume.astype(np.float32)
        found[run.name] = pick_tomogram(grey, volume.voxel_angstrom, picker, pick, torch.device("cpu"))
        truth[run.name] = volume.picks
    assert sum(len(picks) for picks in found.values()) > 0
    assert evaluate(found, truth).score == pytest.approx(score.score)


def test_a_hybrid_is_not_refitted_alone(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"format": 1, "kind": "hybrid"}')
    with pytest.raises(InputError, match="is a hybrid"):
        refit_thresholds(tmp_path, [tmp_path])


def test_refitted_thresholds_reach_the_score_they_say_and_leave_the_weights_alone(
    labelled_runs: Path, small_model: Path
) -> None:
    before = load_unet(small_model)
    fit = refit_thresholds(small_model, [labelled_runs], device="cpu")
    thresholds, score = fit.thresholds, fit.score
    after = load_unet(small_model)
    assert after.thresholds == thresholds
    assert after.calibration != before.calibration
    assert after.provenance["thresholds_fitted_on"]["runs"] == [run.name for run in find_runs(labelled_runs)]
    for name, value in before.network.state_dict().items():
        np.testing.assert_array_equal(after.network.state_dict()[name].numpy(), value.numpy())
    volumes = [load_labelled_volume(run) for run in find_runs(labelled_runs)]
    candidates = predict_candidates(after.network, volumes, SegmentSettings(), torch.device("cpu"))
    truth = {run: read_copick(folder) for run, folder in find_picks(labelled_runs).items()}
    assert evaluate(above_thresholds(candidates, thresholds), truth).score == score.score
    assert score.score >= evaluate(above_thresholds(candidates, before.thresholds), truth).score


def test_types_that_nobody_looked_for_keep_what_decides_about_them_and_known_runs_are_told(
    labelled_runs: Path, small_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_unet(small_model)
    calibration = Calibration(slope=(1.5,) * 6, offset=(-0.5,) * 6)
    save_unet(small_model, replace(model, calibration=calibration, provenance={"training_runs": ["SIM_11_1"]}))
    for folder in find_picks(labelled_runs).values():
        for file in folder.iterdir():
            if file.stem != "ribosome":
                file.unlink()
    refit_thresholds(small_model, [labelled_runs], device="cpu")
    after = load_unet(small_model)
    assert after.calibration is not None
    ribosome = PARTICLE_NAMES.index("ribosome")
    others = [label for label in range(6) if label != ribosome]
    assert [after.thresholds[label] for label in others] == [model.thresholds[label] for label in others]
    assert {(after.calibration.slope[label], after.calibration.offset[label]) for label in others} == {(1.5, -0.5)}
    assert (after.calibration.slope[ribosome], after.calibration.offset[ribosome]) != (1.5, -0.5)
    assert "no apo-ferritin, beta-amylase, beta-galactosidase, thyroglobulin, virus-like-particle in any" in caplog.text
    assert "was trained on runs of the same names (1, as SIM_11_1)" in caplog.text


def test_thresholds_are_fitted_to_the_reconstruction_that_is_asked_for(
    labelled_runs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in find_runs(labelled_runs):
        shutil.copytree(run.tomogram_path, run.tomogram_path.with_name("wbp.zarr"))
    read = []

    def noted(run: RunLocation, **options: Any) -> LabelledVolume:
        read.append(run.tomogram_path.name)
        return load_labelled_volume(run, **options)

    monkeypatch.setattr(refit, "load_labelled_volume", noted)
    main = ["train", "thresholds", str(labelled_runs), "--weights", str(small_model), "--tomogram-type", "wbp"]
    assert CliRunner().invoke(cli, main).exit_code == 0
    assert read == ["wbp.zarr"] * 3
