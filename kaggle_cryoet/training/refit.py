"""Fit the thresholds of a trained model anew, on tomograms of another kind than it was validated on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.store import load_unet, save_unet
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.crops import find_labelled_runs, load_labelled_volume
from kaggle_cryoet.training.module import LEAST_CANDIDATE_SCORE, above_thresholds, predict_candidates
from kaggle_cryoet.training.thresholds import fit_thresholds


def refit_thresholds(
    weights: str | Path,
    data_directories: Sequence[str | Path],
    *,
    settings: SegmentSettings | None = None,
    device: str = "auto",
) -> tuple[tuple[float, ...], Score]:
    """Fit thresholds on labelled runs and write them into the model folder; weights stay as they are.

    Parameters
    ----------
    weights
        Model folder of a 3D U-Net.
    data_directories
        Folders with labelled runs, best such as the model was not trained on.
    settings
        How the network is applied; thresholds suit only predictions that apply it alike.
    device
        `auto`, `cpu` or `cuda`.

    Returns
    -------
    tuple
        The thresholds, and the score that they reach on the very tomograms they were fitted on: an upper bound.

    Raises
    ------
    InputError
        If the model cannot be read, or runs are missing or have no picks.
    """
    model = load_unet(weights)
    where = choose_devices(device)[0]
    candidates: dict[str, Picks] = {}
    truth: dict[str, Picks] = {}
    for run in find_labelled_runs([Path(directory) for directory in data_directories]):
        volume = load_labelled_volume(run)
        candidates |= predict_candidates(model.network, [volume], settings or SegmentSettings(), where)
        truth[run.name] = volume.picks
    thresholds = fit_thresholds(candidates, truth, least_score=LEAST_CANDIDATE_SCORE)
    score = evaluate(above_thresholds(candidates, thresholds), truth)
    note = {"thresholds_fitted_on": {"runs": sorted(truth), "score": score.to_json_dict()}}
    save_unet(weights, replace(model, thresholds=thresholds, provenance={**model.provenance, **note}))
    return thresholds, score
