"""The U-Net half of the public YOLO + U-Net notebook, re-stated plainly: what the package is compared with.

98 windows of 96^3, each z-scored by itself, through the full-resolution U-Net in float32, written over one another
without blending; the first class above 0.05; 26-connected blobs of more than 200 voxels, whatever the class. Weights
are random: time and memory of the network do not depend on their values.
"""

import csv
import itertools
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLE_NAMES

WINDOW = 96
LEAST_PROBABILITY = 0.05
LARGEST_NOISE_BLOB = 200
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-3,))


def window_starts(size: int) -> list[int]:
    """First voxels of windows side by side, the last one moved back to the edge; a shorter axis is one window."""
    starts = list(range(0, max(size - WINDOW, 0) + 1, WINDOW))
    return starts if starts[-1] + WINDOW >= size else [*starts, size - WINDOW]


def classify(network: Any, volume: NDArray[np.float32], *, flips: int) -> NDArray[np.uint8]:
    """`(z, y, x)` class of each voxel, 0 for none, from probabilities averaged over 1 to 4 flips of each window."""
    import torch

    label = np.zeros(volume.shape, dtype=np.uint8)
    for start in itertools.product(*map(window_starts, volume.shape)):
        box = tuple(slice(first, first + WINDOW) for first in start)
        window = volume[box]
        x = torch.from_numpy((window - window.mean()) / window.std())[None, None]
        with torch.inference_mode():
            probability = sum(network(x.flip(axes)).softmax(1).flip(axes) for axes in FLIPS[:flips]) / flips
        above = probability[0, 1:] > LEAST_PROBABILITY  # (class, z, y, x)
        first_class = above.to(torch.uint8).argmax(0) + 1
        label[box] = torch.where(above.any(0), first_class, 0).to(torch.uint8).numpy()
    return label


def blob_centres(label: NDArray[np.uint8]) -> list[tuple[str, NDArray[np.float64]]]:
    """Particle name and centre, z y x in voxels, of each blob that is large enough."""
    import cc3d

    found = []
    for number, name in enumerate(PARTICLE_NAMES, 1):
        statistics = cc3d.statistics(cc3d.connected_components(label == number, connectivity=26))
        large = statistics["voxel_counts"] > LARGEST_NOISE_BLOB
        large[0] = False  # the background
        found += [(name, centre) for centre in statistics["centroids"][large]]
    return found


@click.command()
@click.argument("tomogram", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--flips", type=click.IntRange(1, len(FLIPS)), default=1, show_default=True)
def main(tomogram: Path, output: Path, flips: int) -> None:
    """Pick in one TOMOGRAM.zarr and write a csv."""
    import torch
    import zarr

    from kaggle_cryoet.models.unet3d import HOST, build_unet

    volume = np.asarray(zarr.open_group(tomogram, mode="r")["0"], dtype=np.float32)
    torch.manual_seed(0)
    network = build_unet(HOST).eval()
    centres = blob_centres(classify(network, volume, flips=flips))
    with output.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "experiment", "particle_type", "x", "y", "z"])
        for number, (name, centre) in enumerate(centres):
            writer.writerow([number, tomogram.stem, name, *(centre[::-1] * CZII_VOXEL_ANGSTROM)])


if __name__ == "__main__":
    main()
