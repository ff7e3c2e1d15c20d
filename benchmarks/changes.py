"""What changes to tomograms that other sources and programs make cost the U-Net: `python -m benchmarks.changes`."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from benchmarks.branches import pick_by_all, score_table
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import labelled, read_labels
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS
from kaggle_cryoet.picking.normalise import median_and_spread
from kaggle_cryoet.picking.pickers import load_pickers
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import Tomogram, read_tomogram

Volume = NDArray[np.float32]
Change = Callable[[Volume, np.random.Generator], NDArray[np.floating]]
"""Makes another `(z, y, x)` volume of one."""
GOLD_BEADS, GOLD_VOXELS, GOLD_SPREADS = 12, 5, 40.0
"""Number, radius and darkness of gold beads."""


def ramp(axis: int, spreads: float) -> Change:
    """A ramp along an axis, from so many spreads of grey values below to as many above."""

    def change(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
        height = np.linspace(-spreads, spreads, volume.shape[axis]) * median_and_spread(volume)[1]
        return volume + height.reshape([-1 if axis == other else 1 for other in range(3)])

    return change


def bowl(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
    """Two spreads brighter in the middle of each face than in the middle of the volume, six in the corners."""
    squares = sum(np.meshgrid(*[np.linspace(-1, 1, edge) ** 2 for edge in volume.shape], indexing="ij", sparse=True))
    return volume + 2 * median_and_spread(volume)[1] * np.asarray(squares)


def noisier(spreads: float, smoothing: float = 0.0) -> Change:
    """More noise, of so many spreads, white or smooth."""

    def change(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
        noise = gaussian_filter(rng.standard_normal(volume.shape, dtype=np.float32), smoothing)
        return volume + noise * (spreads * median_and_spread(volume)[1] / noise.std())

    return change


def gamma(power: float) -> Change:
    """Distances from the median, in spreads, to a power."""

    def change(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
        median, spread = median_and_spread(volume)
        return np.sign(volume - median) * (np.abs(volume - median) / spread) ** power

    return change


def in_bytes(share: float) -> Change:
    """In 8 bits, of which that share is clipped on each side."""

    def change(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
        low, high = np.quantile(volume, [share, 1 - share])
        return (np.clip((volume - low) / (high - low), 0, 1) * 255).round()

    return change


def local_contrast(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
    """Mean 0 and standard deviation 1 in each neighbourhood of 41 voxels."""
    level = volume - uniform_filter(volume, 41)
    return level / np.sqrt(uniform_filter(level**2, 41))


def with_gold(volume: Volume, rng: np.random.Generator) -> NDArray[np.floating]:
    """Gold beads at random places."""
    changed, edge = volume.copy(), 2 * GOLD_VOXELS + 1
    grid = np.indices((edge, edge, edge)) - GOLD_VOXELS
    bead = (grid**2).sum(axis=0) <= GOLD_VOXELS**2
    median, spread = median_and_spread(volume)
    for _ in range(GOLD_BEADS):
        corner = [int(rng.integers(0, size - edge + 1)) for size in volume.shape]
        changed[tuple(slice(start, start + edge) for start in corner)][bead] = median - GOLD_SPREADS * spread
    return changed


CHANGES: dict[str, Change] = {
    "none": lambda volume, rng: volume,
    "ramp along x, 3 spreads each way": ramp(2, 3.0),
    "ramp along z, 3 spreads each way": ramp(0, 3.0),
    "ramp along z, 1 spread each way": ramp(0, 1.0),
    "bowl of 6 spreads": bowl,
    "blurred by 1 voxel": lambda volume, rng: gaussian_filter(volume, 1.0),
    "blurred by 1.5 voxels": lambda volume, rng: gaussian_filter(volume, 1.5),
    "sharpened": lambda volume, rng: 3 * volume - 2 * gaussian_filter(volume, 1.5),
    "without what is slower than 8 voxels": lambda volume, rng: volume - gaussian_filter(volume, 8.0),
    "gamma 0.6": gamma(0.6),
    "gamma 1.6": gamma(1.6),
    "8 bits, 1 % clipped on each side": in_bytes(0.01),
    "8 bits, 5 % clipped on each side": in_bytes(0.05),
    "local contrast": local_contrast,
    "gold beads": with_gold,
    "white noise of 1 spread": noisier(1.0),
    "white noise of 2 spreads": noisier(2.0),
    "smooth noise of 1 spread": noisier(1.0, smoothing=2.0),
}
"""By name."""


def changed(tomogram: Tomogram, change: str) -> Tomogram:
    """A tomogram after a change, in which chance is that of its name."""
    rng = np.random.default_rng(zlib.crc32(f"{tomogram.name} {change}".encode()))
    return replace(tomogram, data=CHANGES[change](tomogram.data, rng))


@click.command()
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), default=SHIPPED_WEIGHTS, help="Folder of model folders.")
@click.option("--first", type=click.IntRange(1), help="Only so many runs.")
@click.option("--change", "changes", multiple=True, type=click.Choice(list(CHANGES)), help="Only these.")
def main(data_dir: Path, weights: Path, first: int | None, changes: tuple[str, ...]) -> None:
    """Score the U-Net on the labelled runs in DATA_DIR, changed in each of the ways."""
    from tqdm.auto import tqdm

    settings = PickSettings(branch="unet")
    try:
        runs = labelled(find_runs(data_dir), data_dir)[:first]
        pickers = {"unet": load_pickers("unet", weights)["unet"]}
        truth = {run.name: read_labels(run.picks_directory) for run in runs if run.picks_directory is not None}
        scores = {
            change: evaluate(
                {run.name: pick_by_all(changed(read_tomogram(run), change), pickers, settings)["unet"] for run in runs},
                truth,
            )
            for change in tqdm(changes or CHANGES, desc="changes")
        }
    except InputError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{len(runs)} tomograms; F-beta 4 (precision, recall) of each particle type\n\n{score_table(scores)}")


if __name__ == "__main__":
    main()
