"""What the training of a U-Net begins with: its network, its spectrum, and what it must be gone on with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel
from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.training.module import UNetTrainingSettings
from kaggle_cryoet.training.presets import Recipe
from kaggle_cryoet.training.unchanged import check_unchanged
from kaggle_cryoet.training.volumes import MOST_FOR_SPECTRUM, Source, evenly, load_labelled_volume, spectrum_of


def check_begun(known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise an `InputError` if a training, by the provenance of its model, began otherwise than is asked for now."""
    begun, now = began_with(known), began_with(asked)
    check_unchanged(begun, {name: now[name] for name in begun}, what="a training")
    if "started_with" in known and asked["started_with"] not in (None, known["started_with"]):
        raise InputError("a training is gone on with from its own checkpoint, and it began with other weights")


def began_with(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What of a training must be as it began: all but memory and processes that it has, and what it keeps apart.

    What an earlier version did not note of the tomograms is left out; settings that it did not have are the usual ones.
    """
    noted = ("training_runs", "training_picks", "training_weights", "validation_runs")
    kept = {name: provenance[name] for name in noted if name in provenance}
    usual = Recipe(training=UNetTrainingSettings())
    free = ("memory_gb", "keep", "processes")

    def fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: fixed(value) if isinstance(value, Mapping) else value
            for name, value in settings.items()
            if name not in free
        }

    return kept | {part: fixed(settings | provenance.get(part, {})) for part, settings in asdict(usual).items()}


def spectrum_to_train(known: UNetModel | None, sources: Sequence[Source], adapt: AdaptSettings) -> tuple[float, ...]:
    """The spectrum that a model knows, or the mean of tomograms."""
    if known is not None and known.settings.spectrum:
        return known.settings.spectrum
    return spectrum_of(load_labelled_volume(source.run, adapt=adapt) for source in evenly(sources, MOST_FOR_SPECTRUM))


def check_start(start: UNetModel, preset: str, built_from: UNetSettings) -> None:
    """Raise an `InputError` unless a model's network is that of a preset."""
    if replace(start.settings, localise=built_from.localise, spectrum=()) != built_from:
        raise InputError(f"the model to start from is {start.settings}, preset {preset!r} is {built_from}")


def network_to_train(preset: str, built_from: UNetSettings, start: UNetModel | None, seed: int) -> torch.nn.Module:
    """A network with fresh weights or those of a model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_unet(built_from)
    if start is not None:
        check_start(start, preset, built_from)
        network.load_state_dict(start.network.state_dict())
    if network.channels_last:
        network.to(memory_format=torch.channels_last_3d)
    return network
