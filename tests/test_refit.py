"""Thresholds fitted anew: those that the fit gives, written beside weights that stay as they are."""

from pathlib import Path

import numpy as np
import torch

from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picks import read_copick
from kaggle_cryoet.runs import find_picks, find_runs
from kaggle_cryoet.training.crops import load_labelled_volume
from kaggle_cryoet.training.module import above_thresholds, predict_candidates
from kaggle_cryoet.training.refit import refit_thresholds


def test_refitted_thresholds_reach_the_score_they_say_and_leave_the_weights_alone(
    labelled_runs: Path, small_model: Path
) -> None:
    before = load_unet(small_model)
    thresholds, score = refit_thresholds(small_model, [labelled_runs], device="cpu")
    after = load_unet(small_model)
    assert after.thresholds == thresholds
    assert after.provenance["thresholds_fitted_on"]["runs"] == [run.name for run in find_runs(labelled_runs)]
    for name, value in before.network.state_dict().items():
        np.testing.assert_array_equal(after.network.state_dict()[name].numpy(), value.numpy())
    volumes = [load_labelled_volume(run) for run in find_runs(labelled_runs)]
    candidates = predict_candidates(after.network, volumes, SegmentSettings(), torch.device("cpu"))
    truth = {run: read_copick(folder) for run, folder in find_picks(labelled_runs).items()}
    assert evaluate(above_thresholds(candidates, thresholds), truth).score == score.score
    assert score.score >= evaluate(above_thresholds(candidates, before.thresholds), truth).score
