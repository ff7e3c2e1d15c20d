"""How long steps of a training take on this machine, so that a training can be planned to fit a time limit."""

import time
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, build_unet
from kaggle_cryoet.training.augment import AugmentSettings, augment
from kaggle_cryoet.training.crops import CropDataset, CropSettings, EpochSampler, LabelledVolume
from kaggle_cryoet.training.losses import class_weights, peak_cross_entropy
from kaggle_cryoet.training.targets import TargetSettings

WARM_UP_STEPS = 2
TIMED_STEPS = 6


def seconds_per_step(
    volumes: Sequence[LabelledVolume],
    *,
    preset: str,
    batch_size: int,
    crops: CropSettings,
    device: torch.device,
    most_seconds: float,
) -> float:
    """Mean time for one optimiser step: crops drawn and augmented, network forwards and backwards, weights updated.

    Fewer steps than `TIMED_STEPS` are timed, but at least one, if they take longer than `most_seconds`.
    """
    network = build_unet(PRESET_SETTINGS[preset]).to(device)
    if network.channels_last:
        network.to(memory_format=torch.channels_last_3d)
    stride: int = network.stride  # type: ignore[assignment]
    steps = WARM_UP_STEPS + TIMED_STEPS
    dataset = CropDataset(volumes, length=steps * batch_size, stride=stride, seed=0, settings=crops)
    weight = class_weights(TargetSettings(), volumes[0].voxel_angstrom, stride).to(device)
    optimiser = torch.optim.AdamW(network.parameters())
    generator = torch.Generator().manual_seed(0)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    began, timed = time.monotonic(), 0
    for step, (crop, target) in enumerate(DataLoader(dataset, batch_size, sampler=EpochSampler(len(dataset)))):
        if step == WARM_UP_STEPS:
            began = time.monotonic()
        with torch.autocast(device.type, dtype=half):
            logits = network(augment(crop.to(device), AugmentSettings(), generator))
        torch.autograd.backward(peak_cross_entropy(logits, target.to(device), weight))
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        timed = max(1, step + 1 - WARM_UP_STEPS)
        if time.monotonic() - began > most_seconds:
            break
    return (time.monotonic() - began) / timed
