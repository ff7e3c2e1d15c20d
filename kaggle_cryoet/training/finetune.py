"""Fine-tune on a few labelled tomograms within a time limit; leaving one out at a time gives what decides, and a score.

First a network is trained on all of them, which is the one to pick with. Then, as time allows, one network for each
tomogram is trained on the others. Thresholds and calibration are fitted to what these find in the tomograms that they
have not seen, and it is scored.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.folder import weights_digest
from kaggle_cryoet.models.store import UNetModel, load_unet, save_unet
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.branches import UNET_FOLDER
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE
from kaggle_cryoet.picking.choose import expected_counts
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.picks import Picks, read_copick
from kaggle_cryoet.tomogram import RunLocation
from kaggle_cryoet.training.calibration import fit_calibration
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.left_out import picks_by_others
from kaggle_cryoet.training.module import predict_candidates
from kaggle_cryoet.training.presets import network_settings, training_preset
from kaggle_cryoet.training.rehearsal import seconds_per_step
from kaggle_cryoet.training.side_by_side import Training, train_side_by_side
from kaggle_cryoet.training.thresholds import fit_thresholds
from kaggle_cryoet.training.time_limit import check_time_limit
from kaggle_cryoet.training.unchanged import check_unchanged, picks_digest
from kaggle_cryoet.training.unet import TrainingLength
from kaggle_cryoet.training.unet_start import check_start
from kaggle_cryoet.training.volumes import find_labelled_runs, load_labelled_volume
from kaggle_cryoet.whole_file import write_json

logger = logging.getLogger(__name__)

WORK_FOLDER = ".trainings"
"""In the output folder, until all is done."""
PLAN_FILE = "plan.json"
SCORE_FILE = "leave_one_out.json"


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """How the time is divided."""

    batch_size: int = 4
    epochs: int = 8
    """Portions of a training, each with a checkpoint at its end."""
    most_crops: int = 16_000
    """No training is longer than this."""
    least_crops: int = 400
    """Tomograms are left out only if each training gets at least so many crops."""
    rehearsal_share: float = 0.05
    """Share of the time limit that finding out how long a step takes may have."""
    used_share: float = 0.8
    """Share of the time limit that is planned for; trainings side by side slow each other down."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Lengths of the trainings; kept in a file, so that an interrupted fine-tuning goes on as it was begun."""

    crops_per_epoch: int
    folds: int
    """Tomograms to leave out, each in its turn."""
    training_seconds: float
    """Forecast for one training."""


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
        not positive and finite, or the output holds a model already or cannot be written.
    """
    began = time.monotonic()
    check_time_limit(time_limit_seconds)
    output, settings = Path(output), settings or FineTuneSettings()
    crops, adapt = crops or CropSettings(), adapt or AdaptSettings()
    runs = find_labelled_runs([Path(directory) for directory in data_directories])
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
    work = output / WORK_FOLDER
    if not work.exists() and (output / UNET_FOLDER).exists():
        raise InputError(f"{output} holds a model already; choose another folder")
    devices = choose_devices(device)
    request = {
        "runs": [run.name for run in runs],
        "picks": picks_digest(read_copick(run.picks_directory) for run in runs if run.picks_directory is not None),
        "start": None if start_from is None else weights_digest(Path(start_from)),
        "preset": preset,
        "crops": asdict(crops),
        "adapt": asdict(adapt),
        "settings": asdict(settings),
        "seed": seed,
    }
    plan = _read_plan(work / PLAN_FILE, request)
    if plan is None:
        spectrum = start.settings.spectrum if how.equalise and start is not None else ()
        plan = _make_plan(runs, adapt, spectrum, time_limit_seconds, devices, preset, crops, settings)
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
        score = evaluate(picks_by_others(candidates, truth, expected), truth)
        fitted = replace(
            load_unet(output / UNET_FOLDER),
            thresholds=fit_thresholds(candidates, truth, least_score=LEAST_CANDIDATE_SCORE),
            calibration=fit_calibration(candidates, truth),
        )
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


def _make_plan(
    runs: Sequence[RunLocation],
    adapt: AdaptSettings,
    spectrum: Sequence[float],
    time_limit_seconds: float,
    devices: Sequence[torch.device],
    preset: str,
    crops: CropSettings,
    settings: FineTuneSettings,
) -> Plan:
    """As many tomograms left out as the time allows, each training as long as the time allows then."""
    began = time.monotonic()
    volumes = [load_labelled_volume(run, adapt=adapt, spectrum=spectrum) for run in runs]
    reading = time.monotonic() - began
    step = seconds_per_step(
        volumes,
        preset=preset,
        batch_size=settings.batch_size,
        crops=crops,
        devices=devices,
        most_seconds=settings.rehearsal_share * time_limit_seconds,
    )
    usable = settings.used_share * time_limit_seconds - (time.monotonic() - began)
    for folds in (*range(len(runs), 1, -1), 0):
        rounds = math.ceil((1 + folds) / len(devices))
        steps = max(0.0, usable / rounds - 2 * reading) / step  # read before, and at most as long for what comes after
        crops_per_training = min(settings.most_crops, int(steps) * settings.batch_size)
        if crops_per_training >= settings.least_crops:
            break
    portion = max(1, crops_per_training // (settings.epochs * settings.batch_size)) * settings.batch_size
    seconds = settings.epochs * portion / settings.batch_size * step + 2 * reading
    return Plan(crops_per_epoch=portion, folds=folds, training_seconds=seconds)


def _read_plan(path: Path, request: Mapping[str, Any]) -> Plan | None:
    """The plan of an interrupted fine-tuning of the same request; None if there is none."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        plan, before = Plan(**content["plan"]), dict(content["request"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not the plan of a fine-tuning ({error}); remove its folder to begin anew") from error
    check_unchanged(before, request, what=f"{path}: a fine-tuning", mend="; remove its folder to begin anew")
    return plan


def _publish(trained: Path, target: Path, *, like: UNetModel | None, score: Score | None = None) -> None:
    """Copy a model to where it is looked for, to decide like another one, with the score that stands for it."""
    model = load_unet(trained)
    provenance = {**model.provenance, "leave_one_out": None if score is None else score.to_json_dict()}
    decides = like or model
    save_unet(
        target,
        replace(model, thresholds=decides.thresholds, calibration=decides.calibration, provenance=provenance),
    )
