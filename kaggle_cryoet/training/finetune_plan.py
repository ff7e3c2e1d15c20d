"""How the time of a fine-tuning is divided, kept in a file, so that an interrupted one goes on as it was begun."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.tomogram import RunLocation
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.rehearsal import seconds_per_step
from kaggle_cryoet.training.unchanged import check_unchanged
from kaggle_cryoet.training.volumes import load_labelled_volume


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


def make_plan(
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


def read_plan(path: Path, request: Mapping[str, Any]) -> Plan | None:
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
