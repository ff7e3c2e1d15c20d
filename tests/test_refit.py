"""Thresholds fitted anew: those that the fit gives, written beside weights that stay as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from one_tomogram import pick_tomogram

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.store import YoloModel, load_unet, load_yolo, save_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.pickers import YoloPicker
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import read_copick
from kaggle_cryoet.runs import find_picks, find_runs
from kaggle_cryoet.training.crops import load_labelled_volume
from kaggle_cryoet.training.module import above_thresholds, predict_candidates
from kaggle_cryoet.training.refit import refit_thresholds


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
