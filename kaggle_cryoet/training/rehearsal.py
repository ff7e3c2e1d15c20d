"""How long steps of a training take on this machine, so that a training can be planned to fit a time limit."""

import time
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from kaggle_cryoet.models.unet3d import build_unet
from kaggle_cryoet.training.augment import augment
from kaggle_cryoet.training.crops import CropDataset, CropSettings, EpochSampler
from kaggle_cryoet.training.loaders import loader_processes
from kaggle_cryoet.training.losses import Loss
from kaggle_cryoet.training.presets import network_settings, training_preset
from kaggle_cryoet.training.trainer import training_precision
from kaggle_cryoet.training.volumes import LabelledVolume

AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What is computed in where the trainer says so."""
WARM_UP_STEPS = 2
TIMED_STEPS = 6


def seconds_per_step(
    volumes: Sequence[LabelledVolume],
    *,
    preset: str,
    batch_size: int,
    crops: CropSettings,
    devices: Sequence[torch.device],
    most_seconds: float,
) -> float:
    """Mean time for one optimiser step: crops drawn and augmented, network forwards and backwards, weights updated.

    It is timed on the first of the devices, each of which has a training. Crops are drawn here one after the other;
    where a training has processes for that, as many as are its share of the cores, a step takes as long as the slower
    of both.
    Fewer steps than `TIMED_STEPS` are timed, but at least one, if they take longer than `most_seconds`.
    """
    settings, device = training_preset(preset).training, devices[0]
    network = build_unet(network_settings(preset, settings)).to(device)
    if network.channels_last:
        network.to(memory_format=torch.channels_last_3d)
    stride: int = network.stride  # type: ignore[assignment]
    steps = WARM_UP_STEPS + TIMED_STEPS
    dataset = CropDataset(
        volumes, length=steps * batch_size, stride=stride, seed=0, settings=crops, targets=settings.targets
    )
    loss = Loss(settings.loss, settings.targets, volumes[0].voxel_angstrom, stride).to(device)
    optimiser = torch.optim.AdamW(network.parameters())
    generator = torch.Generator(device).manual_seed(0)
    dtype = AUTOCAST[training_precision([device], network, crops.shape_zyx[0])]
    loader = iter(DataLoader(dataset, batch_size, sampler=EpochSampler(len(dataset))))
    began, drawing, timed = time.monotonic(), 0.0, 0
    for step in range(steps):
        if step == WARM_UP_STEPS:
            began, drawing = time.monotonic(), 0.0
        asked = time.monotonic()
        crop, target = next(loader)
        drawing += time.monotonic() - asked
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = network(augment(crop.to(device), settings.augmentation, generator))
        torch.autograd.backward(loss(logits, target.to(device)))
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        timed = step + 1 if step < WARM_UP_STEPS else step + 1 - WARM_UP_STEPS  # since `began`
        if time.monotonic() - began > most_seconds:
            break
    computing = time.monotonic() - began - drawing
    processes = loader_processes(devices)  # which draw meanwhile, if there are some
    return (max(computing, drawing / processes) if processes else computing + drawing) / timed
