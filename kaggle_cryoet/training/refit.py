"""Fit thresholds and calibration of a trained model anew, on tomograms of another kind than it was validated on."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.folder import DESCRIPTION_FILE
from kaggle_cryoet.models.store import UNetModel, YoloModel, load_unet, load_yolo, save_unet, save_yolo
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE
from kaggle_cryoet.picking.choose import expected_counts
from kaggle_cryoet.picking.detect import prepare
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.picking.equalise import show
from kaggle_cryoet.picking.pickers import UNetPicker, YoloPicker
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.decisions import absent_types, fit_decisions
from kaggle_cryoet.training.left_out import picks_by_others, warn_if_trained_on
from kaggle_cryoet.training.module import above_thresholds
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume

logger = logging.getLogger(__name__)

Propose = Callable[[NDArray[Any], float], Picks]
"""Candidates, down to low scores, of a normalised volume with its voxel size in Å."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refit:
    """What was fitted, and how it scores."""

    thresholds: tuple[float, ...]
    score: Score
    """By the thresholds, on the very tomograms they were fitted on: an upper bound."""
    left_out_score: Score
    """As `predict` picks, each run by the calibration of the others; a single run by its own."""
    runs: int
    """On so many runs."""


def refit_thresholds(
    weights: str | Path,
    data_directories: Sequence[str | Path],
    *,
    tomogram_type: str = "denoised",
    settings: PickSettings | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Refit:
    """Fit thresholds and calibration on labelled runs, and write them into the model folder; weights stay as they are.

    Those of a particle type that is in none of the runs stay as well.

    Parameters
    ----------
    weights
        Model folder of a 3D U-Net or of a YOLO11.
    data_directories
        Folders with labelled runs, best such as the model was not trained on.
    tomogram_type
        Reconstruction to take where a run has several.
    settings
        How tomograms are read and the network is applied; thresholds suit only predictions that apply it alike.
    device
        `auto`, `cpu` or `cuda`.
    progress
        Show a bar.

    Raises
    ------
    InputError
        If the model cannot be read, or runs are missing, or none has picks.
    """
    from tqdm.auto import tqdm

    model = _load(Path(weights))
    settings = settings or PickSettings()
    propose = _proposer(model, settings, choose_devices(device)[0])
    candidates: dict[str, Picks] = {}
    truth: dict[str, Picks] = {}
    expected: dict[str, NDArray[np.float64]] = {}
    runs = find_labelled_runs([Path(directory) for directory in data_directories], tomogram_type)
    warn_if_trained_on(model.provenance, [run.name for run in runs], str(weights))
    for run in tqdm(runs, desc="candidates", unit="tomogram", disable=not progress):
        volume = load_labelled_volume(run, adapt=settings.adapt)
        candidates[run.name] = propose(volume.volume.astype("float32"), volume.voxel_angstrom)
        truth[run.name] = volume.picks
        expected[run.name] = expected_counts(volume.volume.shape, volume.voxel_angstrom)
    least = LEAST_CANDIDATE_SCORE if isinstance(model, UNetModel) else settings.associate.least_score
    fitted = fit_decisions(candidates, truth, known=model, least_score=least)
    absent = absent_types(truth.values())
    if absent:
        logger.warning("no %s in any of the runs: what decides about it stays as it was", ", ".join(absent))
    score = evaluate(above_thresholds(candidates, fitted.thresholds), truth)
    left_out = evaluate(picks_by_others(candidates, truth, expected, known=model), truth)
    scores = {"score": score.to_json_dict(), "left_out_score": left_out.to_json_dict()}
    provenance = {**model.provenance, "thresholds_fitted_on": {"runs": sorted(truth), **scores}}
    decides: dict[str, Any] = {
        "thresholds": fitted.thresholds,
        "calibration": fitted.calibration,
        "provenance": provenance,
    }
    if isinstance(model, UNetModel):
        save_unet(weights, replace(model, **decides))
    else:
        save_yolo(weights, replace(model, **decides))
    return Refit(thresholds=fitted.thresholds, score=score, left_out_score=left_out, runs=len(truth))


def _load(weights: Path) -> UNetModel | YoloModel:
    """The model in a folder, of the kind that it says it is."""
    try:
        kind = json.loads((weights / DESCRIPTION_FILE).read_text(encoding="utf8")).get("kind")
    except (OSError, ValueError, AttributeError):
        kind = None  # what is wrong with it is said on reading it
    if kind == "hybrid":
        raise InputError(f"{weights}: is a hybrid, whose thresholds are fitted together with the rest of it")
    return load_yolo(weights) if kind == "yolo11" else load_unet(weights)


def _proposer(model: UNetModel | YoloModel, settings: PickSettings, device: torch.device) -> Propose:
    """What finds the candidates of a model."""
    if isinstance(model, UNetModel):
        unet, settings = UNetPicker(model=model), replace(settings, own_statistics="never")
        least = [LEAST_CANDIDATE_SCORE] * len(PARTICLES)
        return lambda volume, voxel: unet.propose(
            unet.look(show(volume, unet.spectra), settings, device), voxel, settings, least
        )
    yolo = YoloPicker(model=replace(model, network=prepare(model.network, device)))
    return lambda volume, voxel: yolo.propose(yolo.look(show(volume, yolo.spectra), settings, device), voxel, settings)
