"""What of the setting `shifted` costs a U-Net most: `python -m benchmarks.beyond`.

Tomograms of the same seeds are simulated with all nuisances from the ranges of training, with some of them from those
of `shifted`, and with all but these from there; specimens are the same where their own nuisances are. Scores are by the
thresholds that suit each row best.
"""

from dataclasses import replace
from pathlib import Path

import click
import torch

from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, UNET_FOLDER
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE
from kaggle_cryoet.picking.drift import without_drift
from kaggle_cryoet.picking.segment import SegmentSettings
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.simulation.nuisance_ranges import SHIFTED, TRAINING
from kaggle_cryoet.training.module import above_thresholds, predict_candidates
from kaggle_cryoet.training.thresholds import fit_thresholds
from kaggle_cryoet.training.volumes import LabelledVolume, normalised_volume

GROUPS = {
    "crowding": ("particle_density", "lysate_per_cubic_micrometre", "distractors_per_cubic_micrometre"),
    "thickness": ("ice_thickness_angstrom",),
    "defocus": ("defocus_angstrom",),
    "noise": ("signal_per_noise",),
    "blur": ("softness_per_voxel", "cutoff_per_voxel"),
}
"""Nuisances in which `shifted` lies beyond training."""
SHAPE_ZYX = (184, 320, 320)


def shifted_volume(
    seed: int,
    number: int,
    shifted: tuple[str, ...],
    spectrum: tuple[float, ...],
    shape_zyx: tuple[int, int, int] = SHAPE_ZYX,
) -> LabelledVolume:
    """Tomogram `number` of a set of training, with some nuisances as that of a shifted set has them."""
    beyond = SHIFTED.draw_of_set(seed, number)
    nuisances = replace(TRAINING.draw_of_set(seed, number), **{name: getattr(beyond, name) for name in shifted})
    tomogram, picks, _ = simulate_tomogram(
        f"SIM_{seed}_{number}", seed=(seed, number), shape_zyx=shape_zyx, nuisances=nuisances
    )
    level = without_drift(tomogram.data, tomogram.voxel_angstrom, tomogram.name)
    volume = normalised_volume(level, spectrum=spectrum)
    return LabelledVolume(name=tomogram.name, volume=volume, picks=picks, voxel_angstrom=tomogram.voxel_angstrom)


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=SHIPPED_WEIGHTS / UNET_FOLDER, help="U-Net.")
@click.option("--runs", type=int, default=5, show_default=True, help="Tomograms of each row.")
@click.option("--seed", type=int, default=700, show_default=True)
def main(weights: Path, runs: int, seed: int) -> None:
    """Score a U-Net with each part of the shift alone, and with all but it."""
    model = load_unet(weights)
    every = tuple(name for group in GROUPS.values() for name in group)
    rows: dict[str, tuple[str, ...]] = {"none of it": (), "all of it": every}
    for name, group in GROUPS.items():
        rows[f"{name} alone"] = group
        rows[f"all but {name}"] = tuple(other for other in every if other not in group)
    click.echo(f"| of `shifted` | score | {' | '.join(PARTICLE_NAMES)} |\n|---|{'---|' * (1 + len(PARTICLE_NAMES))}")
    for title, shifted in rows.items():
        volumes = [shifted_volume(seed, number, shifted, model.settings.spectrum) for number in range(runs)]
        candidates = predict_candidates(model.network, volumes, SegmentSettings(), torch.device("cpu"))
        truth = {volume.name: volume.picks for volume in volumes}
        thresholds = fit_thresholds(candidates, truth, least_score=LEAST_CANDIDATE_SCORE)
        score = evaluate(above_thresholds(candidates, thresholds), truth)
        particles = " | ".join(f"{row.fbeta:.2f}" for row in score.particles.values())
        click.echo(f"| {title} | {score.score:.3f} | {particles} |")


if __name__ == "__main__":
    main()
