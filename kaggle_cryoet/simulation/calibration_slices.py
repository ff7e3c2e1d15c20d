"""The public slices of real tomograms, and the same slices of simulated ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM, angstrom_to_index
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation import slice_statistics as statistics
from kaggle_cryoet.tomogram import Tomogram

CROP_FILE = "real/TS_100_3_denoised_crop128_9slices.npz"
SLICE_FILE = "real/TS_5_4_z98_inverted8bit.png"
PROJECTIONS_FILE = "real/ribosome_minproj_crops_30x30_8bit.npz"
PICKS_DIRECTORY = "picks/overlay/ExperimentRuns"
SLICE_RUN, SLICE_Z = "TS_5_4", 98
NEAR_VOXELS = 8.0
"""Picks within so many voxels of the slice are seen in it."""
PLANES = ("xy", "xz", "yz")
PROJECTION_EDGE = 30


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceSet:
    """What is known of a tomogram: a few slices and the picks seen in one of them."""

    planes: Mapping[str, Sequence[NDArray[np.float64]]]
    """By name of plane, slices of 128 x 128 voxels in spreads, z first."""
    spread: float
    """Median of the spreads of these slices, as stored."""
    field: NDArray[np.float64]
    """`(y, x)` slice across the whole field, in spreads, as a display of 8 bits shows it."""
    window: tuple[float, float]
    """Darkest and brightest value of that display, in spreads."""
    seen: Mapping[int, Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]]
    """By label, pairs of a slice like `field` and the `(2,)` centre of a particle in it, y x."""
    projections: Sequence[NDArray[np.float64]]
    """`(30, 30)` minimum projections of ribosomes along z."""


def read_real(directory: str | Path) -> tuple[SliceSet, dict[str, Picks]]:
    """Real slices of two tomograms, and the picks of all by run.

    Parameters
    ----------
    directory
        Holds `real/` and `picks/`; see `CROP_FILE` and the names below it.

    Raises
    ------
    InputError
        If a file is missing or broken.
    """
    directory = Path(directory)
    for name in (CROP_FILE, SLICE_FILE, PROJECTIONS_FILE, f"{PICKS_DIRECTORY}/{SLICE_RUN}"):
        if not (directory / name).exists():
            raise InputError(f"{directory}: expected {name} in it, with the slices and picks of real tomograms")
    try:
        return _read_real(directory)
    except (OSError, ValueError, KeyError, BadZipFile) as error:  # pictures that are none are an OSError
        raise InputError(f"{directory}: its slices and picks cannot be read ({error})") from error


def _read_real(directory: Path) -> tuple[SliceSet, dict[str, Picks]]:
    from PIL import Image

    with (directory / CROP_FILE).open("rb") as file, np.load(file) as crops:
        planes = {plane: [crops[name] for name in crops.files if name.startswith(plane)] for plane in PLANES}
    with Image.open(directory / SLICE_FILE) as image:
        field = statistics.in_spreads(255.0 - np.asarray(image.convert("L"), dtype=np.float64))  # stored inverted
    folders = sorted((directory / PICKS_DIRECTORY).glob("*/Picks"))
    picks = {folder.parent.name: read_copick(folder) for folder in folders}
    index = angstrom_to_index(picks[SLICE_RUN].position_zyx_angstrom, CZII_VOXEL_ANGSTROM)
    near = np.abs(index[:, 0] - SLICE_Z) <= NEAR_VOXELS
    seen = {
        label: [(field, centre) for centre in index[near & (picks[SLICE_RUN].label == label), 1:]]
        for label in range(len(PARTICLES))
    }
    with (directory / PROJECTIONS_FILE).open("rb") as file, np.load(file) as stored:
        projections = [crop.astype(np.float64) for crop in stored["crops"]]
    return SliceSet(
        planes={plane: [statistics.in_spreads(crop) for crop in crops] for plane, crops in planes.items()},
        spread=float(np.median([statistics.spread(crop) for crops in planes.values() for crop in crops])),
        field=field,
        window=(float(field.min()), float(field.max())),
        seen=seen,
        projections=projections,
    ), picks


def slices_like(real: SliceSet, tomogram: Tomogram, picks: Picks, rng: np.random.Generator) -> SliceSet:
    """The same slices of a simulated tomogram, cut at random places, and as many particles seen at random offsets."""
    volume = tomogram.data
    depth, height, width = volume.shape
    edge = real.planes["xy"][0].shape[0]
    start = np.array([(depth - edge) // 2, rng.integers(height - edge + 1), rng.integers(width - edge + 1)])
    crop = volume[tuple(slice(first, first + edge) for first in start)]
    cuts = (edge // 4, edge // 2, 3 * edge // 4)
    planes = {"xy": [crop[z] for z in cuts], "xz": [crop[:, y] for y in cuts], "yz": [crop[:, :, x] for x in cuts]}
    index = angstrom_to_index(picks.position_zyx_angstrom, tomogram.voxel_angstrom)

    def shown(z: int) -> NDArray[np.float64]:
        return statistics.windowed(volume[min(max(z, 0), depth - 1)], *real.window)

    seen: dict[int, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for label, wanted in real.seen.items():
        candidates = np.flatnonzero(picks.label == label)
        chosen = rng.choice(candidates, min(len(wanted), len(candidates)), replace=False)
        offsets = rng.uniform(-NEAR_VOXELS, NEAR_VOXELS, len(chosen))
        seen[label] = [
            (shown(round(z + offset)), np.array([y, x]))
            for (z, y, x), offset in zip(index[chosen], offsets, strict=True)
        ]
    ribosomes = np.round(index[picks.label == label_of("ribosome")]).astype(int)
    half = PROJECTION_EDGE // 2
    boxes = [volume[z - half : z + half, y - half : y + half, x - half : x + half] for z, y, x in ribosomes]
    whole = [box for box in boxes if box.shape == (PROJECTION_EDGE,) * 3]
    return SliceSet(
        planes={plane: [statistics.in_spreads(cut) for cut in cut_planes] for plane, cut_planes in planes.items()},
        spread=float(np.median([statistics.spread(cut) for cut_planes in planes.values() for cut in cut_planes])),
        field=shown(round(SLICE_Z * depth / CZII_SHAPE_ZYX[0])),
        window=real.window,
        seen=seen,
        projections=[box.min(axis=0).astype(np.float64) for box in whole[: len(real.projections)]],
    )
