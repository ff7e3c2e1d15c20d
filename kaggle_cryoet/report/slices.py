"""Pictures of z-slices of a tomogram with its found and its true particles."""

from pathlib import Path

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks, concatenate
from kaggle_cryoet.report.matching import match
from kaggle_cryoet.report.slice_picture import cut_radius, draw_slice
from kaggle_cryoet.tomogram import Tomogram


def draw_slices(tomogram: Tomogram, found: Picks, truth: Picks | None, *, output: Path, count: int = 4) -> list[Path]:
    """Write pictures of `count` slices into the folder `output`; their paths, `z<index>.png`, by rising z.

    See `slice_picture.draw_slice` for what they show. Indices are those of the file, from 0.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    matching = None if truth is None else match(found, truth)
    shown = found if truth is None else concatenate([found, truth])
    paths = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for z in choose_slices(tomogram, shown, count):
            paths.append(output / f"z{tomogram.slice_in_file(z):03d}.png")
            figure = draw_slice(tomogram, z, found, truth, matching)
            figure.savefig(paths[-1], format="png", dpi="figure", pil_kwargs={"compress_level": 3})
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error}") from error
    return paths


def choose_slices(tomogram: Tomogram, picks: Picks, count: int) -> list[int]:
    """Rising z of `count` slices spread over the tomogram: of each of so many slabs the one that cuts most particles.

    Of slices that cut equally many it is the one nearest the middle of its slab. None is nearest to the same slice of
    the file as another one.
    """
    depth = len(tomogram.data)
    z_angstrom = np.arange(depth) * tomogram.voxel_angstrom
    n_cut = np.array([np.isfinite(cut_radius(picks, z)).sum() for z in z_angstrom])
    chosen: dict[int, int] = {}
    for slab in np.array_split(np.arange(depth), min(count, depth)):
        from_middle = np.abs(slab - slab.mean())
        z = int(slab[np.lexsort((from_middle, -n_cut[slab]))[0]])
        chosen.setdefault(tomogram.slice_in_file(z), z)
    return list(chosen.values())
