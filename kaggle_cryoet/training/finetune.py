"""Fine-tune on a few labelled tomograms within a time limit; leaving one out at a time gives what decides, and a score.

First a network is trained on all of them, which is the one to pick with. Then, as time allows, one network for each
tomogram is trained on the others. Thresholds and calibration are fitted to what these find in the tomograms that they
have not seen, and it is scored.
"""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.folder import weights_digest
from kaggle_cryoet.models.store import load_unet, save_unet
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.branches import UNET_FOLDER
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE
from kaggle_cryoet.picking.choose import Decides, expected_counts
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import tomogram_type_of
from kaggle_cryoet.tomogram import RunLocation
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.decisions import fit_decisions
from kaggle_cryoet.training.finetune_plan import FineTuneSettings, Plan, make_plan, read_plan
from kaggle_cryoet.training.left_out import picks_by_others
from kaggle_cryoet.training.module import predict_candidates
from kaggle_cryoet.training.presets import network_settings, training_preset
from kaggle_cryoet.training.side_by_side import Training, train_side_by_side
from kaggle_cryoet.training.time_limit import check_time_limit
from kaggle_cryoet.training.unchanged import picks_digest
from kaggle_cryoet.training.unet import TrainingLength
from kaggle_cryoet.training.unet_start import check_start
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume
from kaggle_cryoet.whole_file import sole_folder, write_json

logger = logging.getLogger(__name__)

WORK_FOLDER = ".trainings"
"""In the output folder, until all is done."""
PLAN_FILE = "plan.json"
SCORE_FILE = "leave_one_out.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuned:
    """What came of a fine-tuning."""

    model: Path
    """Folder of the network that was trained on all tomograms."""
    score: Score | None
    """Score on tomograms that were left out; None if there was no time for two of them."""
    left_out: tuple[str, ...]
    """Their names."""


def fine_tune(
    data_directories: Sequence[str | Path],
    output: str | Path,
    *,
    time_limit_seconds: float,
    start_from: str | Path | None = None,
    preset: str = "half",
    tomogram_type: str = "denoised",
    crops: CropSettings | None = None,
    adapt: AdaptSettings | None = None,
    settings: FineTuneSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> FineTuned:
    """Train on labelled tomograms, on every GPU that works; the model folder is `output/unet3d`.

    What was left behind by an interrupted call with the same output is gone on with. `output/leave_one_out.json` holds
    the score.

    Parameters
    ----------
    data_directories
        Folders with labelled runs, two or more in all.
    output
        Folder to write into.
    time_limit_seconds
        Trainings are planned to fit into this, and none is begun that would not.
    start_from
        Model folder whose weights to start with.
    preset, crops, adapt, settings
        Network, crops, what is known better than tomograms say, and how the time is divided.
    tomogram_type
        Reconstruction to take where a run has several.
    seed
        Of weights, crops and augmentation.
    device
        `auto`, `cpu` or `cuda`.
    progress
        Show a bar of trainings.

    Raises
    ------
    InputError
        If the data cannot be trained on, there is no model to start from or one of another preset, the time limit is
        not positive and finite, or the output holds a model already, cannot be written, or is being written.
    """
    began = time.monotonic()
    check_time_limit(time_limit_seconds)
    output, settings = Path(output), settings or FineTuneSettings()
    crops, adapt = crops or CropSettings(), adapt or AdaptSettings()
    runs = find_labelled_runs([Path(directory) for directory in data_directories], tomogram_type)
    if len(runs) < 2:
        raise InputError(f"expected two labelled runs or more, got {', '.join(run.name for run in runs)}")
    start = None if start_from is None else load_unet(start_from)
    how = training_preset(preset).training
    if start is not None:
        check_start(start, preset, network_settings(preset, how))
        if start.settings.localise != how.localise.method:
            raise InputError(
                f"answers of the model to start from become {start.settings.localise}, those of preset {preset!r} "
                f"{how.localise.method}; `train unet --from` goes on with any targets"
            )
    with sole_folder(output):
        work = output / WORK_FOLDER
        if not work.exists() and (output / UNET_FOLDER).exists():
            raise InputError(f"{output} holds a model already; choose another folder")
        devices = choose_devices(device)
        request = {
            "runs": [run.name for run in runs],
            "picks": picks_digest(read_labels(run.picks_directory) for run in runs if run.picks_directory is not None),
            "start": None if start_from is None else weights_digest(Path(start_from)),
            "preset": preset,
            "tomograms": [tomogram_type_of(run.tomogram_path) for run in runs],
            "crops": asdict(crops),
            "adapt": asdict(adapt),
            "settings": asdict(settings),
            "seed": seed,
        }
        plan = read_plan(work / PLAN_FILE, request)
        if plan is None:
            spectrum = start.settings.spectrum if how.equalise and start is not None else ()
            plan = make_plan(runs, adapt, spectrum, time_limit_seconds, devices, preset, crops, settings)
            write_json(work / PLAN_FILE, {"plan": asdict(plan), "request": request})
        trainings = _trainings(runs, plan, work, preset, start_from, crops, adapt, settings, seed)
        by_name = {run.name: run for run in runs}
        candidates: dict[str, Picks] = {}
        truth: dict[str, Picks] = {}
        expected: dict[str, NDArray[np.float64]] = {}
        for training in train_side_by_side(
            trainings, devices, began + time_limit_seconds, plan.training_seconds, progress=progress
        ):
            if training.name not in by_name:
                _publish(training.output / UNET_FOLDER, output / UNET_FOLDER, like=start)
                continue
            model = load_unet(training.output / UNET_FOLDER)
            shown = load_labelled_volume(by_name[training.name], adapt=adapt, spectrum=model.settings.spectrum)
            candidates |= predict_candidates(model.network, [shown], how.validation, devices[0], how.localise)
            truth[training.name] = shown.picks
            expected[training.name] = expected_counts(shown.volume.shape, shown.voxel_angstrom)
        score = None
        if len(candidates) > 1:
            score = evaluate(picks_by_others(candidates, truth, expected, known=start), truth)
            fitted = fit_decisions(candidates, truth, known=start, least_score=LEAST_CANDIDATE_SCORE)
            _publish(output / UNET_FOLDER, output / UNET_FOLDER, like=fitted, score=score)
            write_json(output / SCORE_FILE, score.to_json_dict())
        else:
            decides = "a half for lack of anything better" if start is None else "those of the model at the start"
            logger.warning("no time to leave tomograms out: thresholds are %s", decides)
        shutil.rmtree(work)
        return FineTuned(model=output / UNET_FOLDER, score=score, left_out=tuple(candidates))


def _trainings(
    runs: Sequence[RunLocation],
    plan: Plan,
    work: Path,
    preset: str,
    start_from: str | Path | None,
    crops: CropSettings,
    adapt: AdaptSettings,
    settings: FineTuneSettings,
    seed: int,
) -> list[Training]:
    """The training on all runs, and those without one run, which bear its name."""
    steps = settings.epochs * plan.crops_per_epoch // settings.batch_size
    length = TrainingLength(
        epochs=settings.epochs,
        crops_per_epoch=plan.crops_per_epoch,
        batch_size=settings.batch_size,
        validate_every=settings.epochs,
        ema_decay=min(0.998, 1 - 10 / (steps + 10)),  # the average reaches over a tenth of a short training at most
    )
    return [
        Training(
            name="" if left_out is None else left_out.name,
            data=tuple(str(run.tomogram_path) for run in runs if run is not left_out),
            output=work / ("all" if left_out is None else f"without-{left_out.name}"),
            length=length,
            crops=crops,
            preset=preset,
            start_from=None if start_from is None else Path(start_from),
            adapt=adapt,
            seed=seed,
        )
        for left_out in (None, *runs[: plan.folds])
    ]


def _publish(trained: Path, target: Path, *, like: Decides | None, score: Score | None = None) -> None:
    """Copy a model to where it is looked for, to decide like another one, with the score that stands for it."""
    model = load_unet(trained)
    provenance = {**model.provenance, "leave_one_out": None if score is None else score.to_json_dict()}
    decides = like or model
    save_unet(
        target,
        replace(model, thresholds=decides.thresholds, calibration=decides.calibration, provenance=provenance),
    )
