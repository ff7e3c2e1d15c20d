"""Fit the hybrid: what the 3D U-Net and YOLO11 make of a candidate, brought to one probability, type by type."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.folder import weights_digest
from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
from kaggle_cryoet.models.odds import logistic
from kaggle_cryoet.models.store import load_hybrid, load_unet, load_yolo, save_hybrid
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picking.branches import HYBRID_FOLDER, UNET_FOLDER, YOLO_FOLDER
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE
from kaggle_cryoet.picking.choose import Decides, choose, expected_counts
from kaggle_cryoet.picking.detect import prepare
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.picking.equalise import show
from kaggle_cryoet.picking.fuse import Candidates, rank, suppress_each_type
from kaggle_cryoet.picking.pickers import MODELS_NOTE, UNetPicker, YoloPicker, propose
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import find_hits
from kaggle_cryoet.training.decisions import absent_types, fit_decisions
from kaggle_cryoet.training.left_out import others_of, picks_by_others, warn_if_trained_on
from kaggle_cryoet.training.logistic import fit_logistic
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume

logger = logging.getLogger(__name__)

PRIOR = {"unet_logit": 0.5, "yolo_logit": 0.5}
"""Coefficients without examples: the mean of both logits, whoever found it."""
PRIOR_STRENGTH = 2.0
EVEN = (0.5,) * len(PARTICLES)
"""Thresholds of probabilities that nothing was fitted to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """What the branches make of labelled tomograms, by run."""

    candidates: Mapping[str, Candidates]
    """Of both branches, as one list."""
    unet: Mapping[str, Picks]
    """Of the U-Net alone, down to low scores."""
    yolo: Mapping[str, Picks]
    """Of YOLO alone, down to low scores."""
    truth: Mapping[str, Picks]
    expected: Mapping[str, NDArray[np.float64]]
    """`(6,)` numbers of particles that may be expected in each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HybridFit:
    """A fitted hybrid, and how it compares."""

    model: HybridModel
    scores: Mapping[str, Score]
    """Of `unet`, `yolo`, `mean` (of both scores) and `hybrid`. Each run is scored with what was fitted on the others;
    a single run, with what was fitted on itself."""


def fit_hybrid_folder(
    data_directories: Sequence[str | Path],
    weights: str | Path,
    output: str | Path | None = None,
    *,
    tomogram_type: str = "denoised",
    settings: PickSettings | None = None,
    device: str = "auto",
    progress: bool = False,
) -> HybridFit:
    """Run both branches on labelled runs, fit the hybrid to what they find, and write its model folder.

    Of a particle type that is in none of the runs it keeps what the hybrid beside the two models makes of it, if there
    is one.

    Parameters
    ----------
    data_directories
        Folders with labelled runs, which neither model was trained on.
    weights
        Folder with the model folders `unet3d` and `yolo11`.
    output
        Model folder to write; `hybrid` beside those two if not given.
    tomogram_type
        Reconstruction to take where a run has several.
    settings
        How the networks are applied; the hybrid suits only predictions that apply them alike.
    device
        `auto`, `cpu` or `cuda`.
    progress
        Show a bar.

    Raises
    ------
    InputError
        If a model or a run is missing or cannot be used.
    """
    weights = Path(weights)
    settings = replace(settings or PickSettings(), branch="hybrid")
    for name in (UNET_FOLDER, YOLO_FOLDER):
        if not (weights / name).is_dir():
            raise InputError(
                f"{weights}: the hybrid is fitted to the models {UNET_FOLDER} and {YOLO_FOLDER}; no {name}"
            )
    unet = UNetPicker(model=load_unet(weights / UNET_FOLDER))
    model = load_yolo(weights / YOLO_FOLDER)
    yolo = YoloPicker(model=replace(model, network=prepare(model.network, torch.device("cpu"))))
    examples = collect_examples(
        data_directories, unet, yolo, settings, tomogram_type=tomogram_type, device=device, progress=progress
    )
    known = _hybrid_before(weights / HYBRID_FOLDER)
    networks: dict[str, Decides] = {"unet": unet.model, "yolo": yolo.model}
    scores = compare(examples, settings.suppression_radius, networks=networks, known=known)
    hybrid = fit_hybrid(examples, settings.suppression_radius, known=known)
    absent = absent_types(examples.truth.values())
    if absent:
        how = "the mean of both networks is taken" if known is None else "what decides about it stays as it was"
        logger.warning("no %s in any of the runs: %s", ", ".join(absent), how)
    provenance = {
        "runs": sorted(examples.truth),
        "left_out_scores": {name: score.to_json_dict() for name, score in scores.items()},
        MODELS_NOTE: {name: weights_digest(weights / name) for name in (UNET_FOLDER, YOLO_FOLDER)},
    }
    hybrid = replace(hybrid, provenance=provenance)
    save_hybrid(weights / HYBRID_FOLDER if output is None else output, hybrid)
    return HybridFit(model=hybrid, scores=scores)


def collect_examples(
    data_directories: Sequence[str | Path],
    unet: UNetPicker,
    yolo: YoloPicker,
    settings: PickSettings,
    *,
    tomogram_type: str = "denoised",
    device: str,
    progress: bool,
) -> Examples:
    """What both branches find in labelled runs.

    Raises
    ------
    InputError
        If runs are missing or faulty, or none is labelled.
    """
    where = choose_devices(device)[0]
    settings = replace(settings, own_statistics="never")
    candidates: dict[str, Candidates] = {}
    by_unet: dict[str, Picks] = {}
    by_yolo: dict[str, Picks] = {}
    truth: dict[str, Picks] = {}
    expected: dict[str, NDArray[np.float64]] = {}
    runs = find_labelled_runs([Path(directory) for directory in data_directories], tomogram_type)
    for name, branch in ((UNET_FOLDER, unet), (YOLO_FOLDER, yolo)):
        warn_if_trained_on(branch.model.provenance, [run.name for run in runs], name)
    for run in tqdm(runs, desc=f"picking on {where}", unit="tomogram", disable=not progress):
        labelled = load_labelled_volume(run, adapt=settings.adapt)
        voxel, volume = labelled.voxel_angstrom, labelled.volume.astype(np.float32)
        shown = show(volume, unet.spectra | yolo.spectra)
        grid, boxes = unet.look(shown, settings, where), yolo.look(shown, settings, where)
        candidates[run.name] = propose(unet, yolo, (grid, boxes), voxel, settings)
        by_unet[run.name] = unet.propose(grid, voxel, settings, [LEAST_CANDIDATE_SCORE] * len(PARTICLES))
        by_yolo[run.name] = yolo.propose(boxes, voxel, settings)
        truth[run.name] = labelled.picks
        expected[run.name] = expected_counts(volume.shape, voxel)
    return Examples(candidates=candidates, unet=by_unet, yolo=by_yolo, truth=truth, expected=expected)


def _hybrid_before(folder: Path) -> HybridModel | None:
    """The hybrid in a folder, None if there is none that can be read: it is to be replaced."""
    try:
        return load_hybrid(folder)
    except InputError:
        return None


def fit_hybrid(examples: Examples, suppression_radius: float, *, known: HybridModel | None = None) -> HybridModel:
    """The logistic model of each type, and what decides about its probabilities, on all runs of the examples.

    Of a type that is in none of them it is that of `known`, or else of `PRIOR`: nobody may have looked for it.
    """
    runs = list(examples.truth)
    features = np.concatenate([examples.candidates[run].features for run in runs])
    label = np.concatenate([examples.candidates[run].picks.label for run in runs])
    hit = np.concatenate([find_hits(examples.candidates[run].picks, examples.truth[run]) for run in runs])
    prior = np.array([PRIOR.get(name, 0.0) for name in FEATURES] + [0.0])
    coefficients = [
        fit_logistic(features[label == kind], hit[label == kind], prior, PRIOR_STRENGTH)
        for kind in range(len(PARTICLES))
    ]
    before = known or HybridModel(
        coefficients=(tuple(prior.tolist()),) * len(PARTICLES), thresholds=EVEN, provenance={}
    )
    absent = absent_types(examples.truth.values())
    rows = [
        before.coefficients[kind] if name in absent else tuple(coefficients[kind].tolist())
        for kind, name in enumerate(PARTICLE_NAMES)
    ]
    model = HybridModel(coefficients=tuple(rows), thresholds=EVEN, provenance={})
    ranked = {run: rank(examples.candidates[run], model, suppression_radius) for run in runs}
    fitted = fit_decisions(ranked, examples.truth, known=before)
    return replace(model, thresholds=fitted.thresholds, calibration=fitted.calibration)


def compare(
    examples: Examples,
    suppression_radius: float,
    *,
    networks: Mapping[str, Decides] | None = None,
    known: HybridModel | None = None,
) -> dict[str, Score]:
    """Scores of the branches, of the mean of their scores, and of the hybrid, each fitted without the scored run.

    Of types that are in none of the others `networks` decide, by name of `unet` and `yolo`, and `known`, the hybrid.
    """
    networks = networks or {}
    mean = {run: _mean_of_both(found, suppression_radius) for run, found in examples.candidates.items()}
    truth, expected = examples.truth, examples.expected
    found = {
        name: picks_by_others(candidates, truth, expected, known=networks.get(name))
        for name, candidates in (("unet", examples.unet), ("yolo", examples.yolo), ("mean", mean))
    }
    found["hybrid"] = {}
    for run in truth:
        model = fit_hybrid(replace(examples, truth=others_of(run, truth)), suppression_radius, known=known)
        found["hybrid"][run] = choose(rank(examples.candidates[run], model, suppression_radius), model, expected[run])
    return {name: evaluate(picks, truth) for name, picks in found.items()}


def _mean_of_both(candidates: Candidates, suppression_radius: float) -> Picks:
    """The plain alternative to the hybrid: candidates with the mean of both scores, the least where YOLO has none."""
    logits = candidates.features[:, [FEATURES.index("unet_logit"), FEATURES.index("yolo_logit")]]
    score = logistic(logits).mean(axis=1)
    picks = candidates.picks
    scored = Picks(position_zyx_angstrom=picks.position_zyx_angstrom, label=picks.label, score=score)
    return suppress_each_type(scored, suppression_radius)
