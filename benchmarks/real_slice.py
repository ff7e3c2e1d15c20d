"""A detector on the one real slice, and on simulated ones shown alike: `python -m benchmarks.real_slice DIR`.

The step from simulated to real slices in numbers: of the detections in a slice, the surest are taken, as many as the
slice shows particles (or two or four times as many), and it is counted how many of the particles they hit. Particles
whose centres lie far from the slice are harder to see, so that simulated hits are also weighed as if particles lay at
the heights of the real ones. DIR is as in `kaggle-cryoet calibrate`. A single slice, 8 bit and clipped, in all three
channels: no context in z.
"""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.look import LookSettings, detect_in_image
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.slice_count import count_detections
from kaggle_cryoet.simulation.calibration_slices import SLICE_RUN, SLICE_Z, read_real
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.simulation.network_denoising import DENOISERS, draw_denoising
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.slice_statistics import windowed

TIMES_SHOWN = (1, 2, 4)
"""So many detections are taken for each particle that a slice shows."""
LEAST_CONFIDENCE = 0.001
HEIGHT_BORDERS = (0.3, 0.6)
"""Particles that a slice shows are told apart by their distance from it, in radii."""


def hits(
    image: NDArray[np.float64], picks: Picks, z_angstrom: float, weights: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(times, label, height)` particles of a slice that are hit, for each of `TIMES_SHOWN`, and all that it shows."""
    settings = LookSettings(tone="dark", least_confidence=LEAST_CONFIDENCE)
    found, _ = detect_in_image(image.astype(np.float32), weights, settings)
    order = np.argsort(-np.asarray(found.score))
    _, shown = _hit_and_shown(found, picks, z_angstrom)
    surest = [found.select(order[: times * shown.sum()]) for times in TIMES_SHOWN]
    return np.array([_hit_and_shown(some, picks, z_angstrom)[0] for some in surest]), shown


def at_numbers(shown: NDArray[np.int64], hit_elsewhere: NDArray[np.int64], shown_elsewhere: NDArray[np.int64]) -> float:
    """Hits in a slice that shows so many of each kind, were each hit as often as elsewhere, or never if not there."""
    share = hit_elsewhere / np.maximum(shown_elsewhere, 1)
    return float((shown * share).sum())


def _hit_and_shown(found: Picks, picks: Picks, z_angstrom: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`(label, height)` particles that the slice shows and that are hit, and all that it shows."""
    count = count_detections(found, picks, z_angstrom=z_angstrom)
    assert count.shown is not None
    radius = np.array([particle.radius_angstrom for particle in PARTICLES])[count.shown.label]
    distance = np.abs(count.shown.position_zyx_angstrom[:, 0] - z_angstrom) / radius
    kind = (count.shown.label, np.digitize(distance, HEIGHT_BORDERS))
    hit, shown = np.zeros((2, len(PARTICLES), len(HEIGHT_BORDERS) + 1), dtype=np.int64)
    np.add.at(hit, kind, count.shown_is_hit)
    np.add.at(shown, kind, 1)
    return hit, shown


@click.command()
@click.argument("real_dir", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), default=SHIPPED_WEIGHTS, help="Folder of a YOLO11.")
@click.option("--setting", type=click.Choice(tuple(NUISANCE_RANGES)), default="training", show_default=True)
@click.option("--runs", type=click.IntRange(0), default=10, show_default=True, help="Simulated tomograms.")
@click.option("--seed", type=int, default=900, show_default=True)
@click.option("--denoiser", type=click.Choice(DENOISERS), default="filters", show_default=True)
def main(real_dir: Path, weights: Path, setting: str, runs: int, seed: int, denoiser: str) -> None:
    """Count hits of the surest detections in the real slice, and in slices of simulated tomograms shown alike."""
    try:
        real, picks = read_real(real_dir)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    z_angstrom = SLICE_Z * CZII_VOXEL_ANGSTROM
    counts = [hits(real.field, picks[SLICE_RUN], z_angstrom, weights)]
    for number in range(runs):
        tomogram, truth, _ = simulate_tomogram(
            "simulated",
            seed=(seed, number),
            shape_zyx=CZII_SHAPE_ZYX,
            nuisances=NUISANCE_RANGES[setting].draw_of_set(seed, number),
            denoising=draw_denoising(denoiser, seed, number),
        )
        image = windowed(tomogram.data[SLICE_Z], *real.window)
        counts.append(hits(image, truth, SLICE_Z * tomogram.voxel_angstrom, weights))
    heads = " | ".join(f"hit by {times} detections for each" for times in TIMES_SHOWN)
    click.echo(f"| slice | shown | {heads} |\n|---|---|{'---|' * len(TIMES_SHOWN)}")
    for title, (hit, shown) in zip(["real", *(f"simulated, {number}" for number in range(runs))], counts, strict=True):
        click.echo(f"| {title} | {shown.sum()} | {' | '.join(map(str, hit.sum(axis=(1, 2))))} |")
    if not runs:
        return
    (real_hit, real_shown), simulated = counts[0], counts[1:]
    all_hit = np.sum([hit for hit, _ in simulated], axis=0)
    all_shown = np.sum([shown for _, shown in simulated], axis=0)
    shares = " | ".join(f"{hit.sum() / all_shown.sum():.2f}" for hit in all_hit)
    click.echo(f"| simulated, share | {all_shown.sum()} | {shares} |")
    by_type = [at_numbers(real_shown.sum(axis=1), hit.sum(axis=1), all_shown.sum(axis=1)) for hit in all_hit]
    by_height = [at_numbers(real_shown, hit, all_shown) for hit in all_hit]
    for title, expected in (("", by_type), (", at its heights", by_height)):
        cells = " | ".join(f"{number:.1f}" for number in expected)
        click.echo(f"| simulated, with as many of each type as the real one{title} | {real_shown.sum()} | {cells} |")
    bands = (*(f"within {border} radii" for border in HEIGHT_BORDERS), "further")
    click.echo(
        f"\n| hit of shown, by as many detections as shown | {' | '.join(f'real, {band}' for band in bands)} | "
        f"{' | '.join(f'simulated, {band}' for band in bands)} |\n|---|{'---|' * 2 * len(bands)}"
    )
    for label, particle in enumerate(PARTICLES):
        numbers = [
            f"{hit} of {shown}"
            for some_hit, some_shown in ((real_hit, real_shown), (all_hit, all_shown))
            for hit, shown in zip(some_hit[0, label], some_shown[label], strict=True)
        ]
        click.echo(f"| {particle.name} | {' | '.join(numbers)} |")


if __name__ == "__main__":
    main()
