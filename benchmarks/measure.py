"""Measurements that need a process of their own, each a command that prints one JSON object."""

import itertools
import json
import time
from pathlib import Path

import click

CROPS_PER_STEP = 4
WARM_UP_STEPS = 2


@click.group()
def main() -> None:
    """Measure one thing."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--runs", type=int, required=True)
@click.option("--shape", nargs=3, type=int, required=True)
@click.option("--seed", type=int, required=True)
def simulate(folder: Path, runs: int, shape: tuple[int, int, int], seed: int) -> None:
    """Simulate labelled runs into FOLDER; the seconds of each, without writing it."""
    from kaggle_cryoet.simulation.dataset import run_name, simulate_tomogram
    from kaggle_cryoet.simulation.run_folder import write_run

    seconds = []
    for number in range(runs):
        started = time.perf_counter()
        tomogram, picks, _ = simulate_tomogram(run_name(seed, number), seed=(seed, number), shape_zyx=shape)
        seconds.append(time.perf_counter() - started)
        write_run(folder, tomogram.name, {"denoised": tomogram}, picks, {"seed": [seed, number]})
    click.echo(json.dumps({"seconds": seconds}))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), required=True)
def stages(folder: Path, weights: Path) -> None:
    """Seconds of the stages of picking the first run in FOLDER, once everything is compiled."""
    import torch

    from kaggle_cryoet.models.store import load_unet
    from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE, find_candidates
    from kaggle_cryoet.picking.equalise import equalise
    from kaggle_cryoet.picking.normalise import normalise
    from kaggle_cryoet.picking.segment import SegmentSettings, segment
    from kaggle_cryoet.runs import find_runs
    from kaggle_cryoet.tomogram import read_tomogram

    model = load_unet(weights)
    clock = [time.perf_counter()]
    tomogram = read_tomogram(find_runs(folder)[0])
    volume = normalise(tomogram.data)
    clock.append(time.perf_counter())
    volume = equalise(volume, model.settings.spectrum)
    clock.append(time.perf_counter())
    grid = segment(model.network, volume, settings=SegmentSettings(), device=torch.device("cpu"))
    clock.append(time.perf_counter())
    least = [min(threshold, LEAST_CANDIDATE_SCORE) for threshold in model.thresholds]
    for _ in range(2):  # the first time compiles
        picks = find_candidates(grid, voxel_angstrom=tomogram.voxel_angstrom, thresholds=least)
        clock.append(time.perf_counter())
    read, equal, network, _, localise = (end - begin for begin, end in itertools.pairwise(clock))
    seconds = {"read": read, "equalise": equal, "network": network, "localise": localise}
    click.echo(json.dumps({**seconds, "picks": len(picks)}))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--steps", type=int, required=True)
def training(folder: Path, steps: int) -> None:
    """Voxels per second of training on the runs in FOLDER, and the share of the time that the network takes."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    from torch.utils.data import DataLoader

    from kaggle_cryoet.models.precision import cpu_has_bfloat16
    from kaggle_cryoet.models.unet3d import HALF, build_unet
    from kaggle_cryoet.training.augment import AugmentSettings, augment
    from kaggle_cryoet.training.crops import CropDataset, EpochSampler, find_labelled_runs, load_labelled_volume
    from kaggle_cryoet.training.losses import class_weights, peak_cross_entropy
    from kaggle_cryoet.training.targets import TargetSettings

    volumes = [load_labelled_volume(run) for run in find_labelled_runs([folder])]
    torch.manual_seed(0)
    network = build_unet(HALF).to(memory_format=torch.channels_last_3d).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    ema = get_ema_multi_avg_fn(0.998)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=ema, use_buffers=True)
    weight = class_weights(TargetSettings(), volumes[0].voxel_angstrom, stride=2)
    generator = torch.Generator().manual_seed(0)
    count = (WARM_UP_STEPS + steps) * CROPS_PER_STEP
    batches = iter(
        DataLoader(
            CropDataset(volumes, length=count, stride=2, seed=0),
            batch_size=CROPS_PER_STEP,
            sampler=EpochSampler(count),
        )
    )
    total = in_network = 0.0
    voxels = 0
    for step in range(WARM_UP_STEPS + steps):
        started = time.perf_counter()
        crop, target = next(batches)
        crop = augment(crop, AugmentSettings(), generator)
        shown = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cpu_has_bfloat16()):
            logits = network(crop)
        loss = peak_cross_entropy(logits, target, weight)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        learned = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(network)
        if step >= WARM_UP_STEPS:
            total += time.perf_counter() - started
            in_network += learned - shown
            voxels += crop.numel()
    click.echo(json.dumps({"voxels_per_second": voxels / total, "network_share": in_network / total}))


if __name__ == "__main__":
    main()
