"""Averages of weights: of one network while it trains, and of several trained ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from torch import Tensor

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_unet, save_unet

WARM_UP = 10
"""An average of few steps forgets faster: after n steps, its decay is at most (1 + n) / (10 + n)."""
TOLD_ABOVE = {"told": "above"}
"""In the provenance of an average, of an ancestor that it has told of before, beside its commit and seed."""


class RunningAverage(WeightAveraging):
    """Exponential moving average of the weights; it follows soon, so that a score can be looked at early."""

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_Blend(decay))

    @property
    def state_key(self) -> str:
        """That of lightning's own average, so that checkpoints written with it can be gone on with."""
        return EMAWeightAveraging.__qualname__


class _Blend:
    """One step of the average, as an object that can be sent to another process."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        """Go on by one step after `count`; what counts is copied."""
        n = float(count)
        weight = 1 - min(self.decay, (1 + n) / (WARM_UP + n))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)


def average_models(models: Sequence[str | Path], output: str | Path) -> Path:
    """Write a model folder whose weights and thresholds are the means of several models', not calibrated; return it.

    It pays for models of one training, or of several that began with the same weights; those of independent trainings
    have nothing in common. Thresholds and calibration should be fitted anew.

    Raises
    ------
    InputError
        If there are less than two models, or they are of different networks.
    """
    if len(models) < 2:
        raise InputError(f"an average is of two models or more, got {len(models)}")
    loaded = [load_unet(model) for model in models]
    first = loaded[0]
    for path, other in zip(models, loaded, strict=True):
        if other.settings != first.settings:
            differing = [
                f.name
                for f in fields(other.settings)
                if getattr(other.settings, f.name) != getattr(first.settings, f.name)
            ]
            raise InputError(
                f"{path} and {models[0]} are of networks that differ in {', '.join(differing)}; expected one network"
            )
    states = [model.network.state_dict() for model in loaded]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        for name, value in states[0].items()
    }
    first.network.load_state_dict(mean)
    thresholds = torch.tensor([model.thresholds for model in loaded], dtype=torch.float64).mean(dim=0)
    provenance = told_once({"average_of": [dict(model.provenance) for model in loaded]})
    decided = replace(first, thresholds=tuple(thresholds.tolist()), calibration=None)
    save_unet(output, replace(decided, provenance=provenance))
    return Path(output)


def told_once(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance that tells of each ancestor once, where it comes first; models of an average have them in common."""
    told: set[str] = set()

    def once(ancestor: Any) -> Any:
        if isinstance(ancestor, list):
            return [once(item) for item in ancestor]
        if not isinstance(ancestor, Mapping):
            return ancestor
        content = json.dumps(ancestor, sort_keys=True)
        if content in told:
            return {name: ancestor[name] for name in ("commit", "seed") if name in ancestor} | TOLD_ABOVE
        told.add(content)
        return {
            name: once(value) if name in ("average_of", "started_from") else value for name, value in ancestor.items()
        }

    once_told: dict[str, Any] = once(provenance)
    return once_told
