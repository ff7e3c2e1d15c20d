"""From a density map to a bead model: place, weigh and widen Gaussian beads until they look like the map at 10 Å."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.simulation.beads import BeadModel, centred, render, write_bead_model
from kaggle_cryoet.simulation.density_map import read_map

if TYPE_CHECKING:
    import torch

FIT_VOXEL_ANGSTROM = 10.0
"""Finer maps are brought to this voxel before the fit."""

_MARGIN_VOXELS = 2
_NOISE_FRACTION = 0.05
_MOST_OVER_NEIGHBOURS = 4.0
"""A voxel that stands out so many times more than all beside it is a fault; in polnet's maps it is 1.2 at most."""
_STEPS = 250


def fit_bead_model_from_map(
    name: str,
    map_path: Path,
    output_directory: Path,
    *,
    mass_kilodalton: float,
    source: str,
    beads: int | None = None,
    bodies: int = 1,
    seed: int = 0,
) -> BeadModel:
    """Fit a bead model to an MRC map and write it to `<output_directory>/<name>.csv`.

    Parameters
    ----------
    name : str
        Name of the particle.
    map_path : Path
        Density map, protein bright; its scale and the level of what is about the protein do not matter.
    output_directory : Path
        Made if it is not there.
    mass_kilodalton : float
        Molecular mass that the beads share.
    source : str
        Entry, makers and licence of the map, one line.
    beads : int, optional
        Their number; without it, `bead_count` of the mass.
    bodies : int
        2 for a map that holds two copies of the particle, one beside the other; the heavier one is fitted.
    seed : int
        Of the places from which the beads start.

    Raises
    ------
    InputError
        If the map cannot be read, has an absurd voxel or holds no density, or a number makes no sense.
    """
    if bodies not in (1, 2):
        raise InputError(f"expected a map of 1 or 2 bodies, got {bodies}")
    density, voxel_angstrom = read_map(map_path)
    try:
        model = fit_beads(
            heavier_body(_above_border(density)) if bodies == 2 else density,
            voxel_angstrom,
            beads=bead_count(mass_kilodalton) if beads is None else beads,
            seed=seed,
            name=name,
            mass_kilodalton=mass_kilodalton,
            source=source,
        )
    except InputError as error:
        raise InputError(f"{map_path}: {error}") from error
    output_directory.mkdir(parents=True, exist_ok=True)
    write_bead_model(output_directory / f"{name}.csv", model)
    return model


def bead_count(mass_kilodalton: float) -> int:
    """Beads that a particle of this mass is worth: one per 4 kDa, from 24 to 400."""
    return int(np.clip(round(mass_kilodalton / 4), 24, 400))


def heavier_body(density: NDArray[np.floating]) -> NDArray[np.float32]:
    """Density on the heavier side of the emptiest plane across the middle of the map's longest principal axis.

    Raises
    ------
    InputError
        If no voxel is above 0.
    """
    if density.size == 0 or not density.max() > 0:
        raise InputError(f"no density above 0 in a map of {density.shape} voxels")
    index = np.argwhere(density > 0).astype(np.float64)
    weight = density[density > 0].astype(np.float64)
    offset = centred(index, weight)
    longest = np.linalg.eigh((offset * weight[:, None]).T @ offset)[1][:, -1]
    along = offset @ longest
    cut = np.linspace(-0.25, 0.25, 41) * np.ptp(along)
    content = weight @ np.exp(-0.5 * (along[:, None] - cut) ** 2)  # of a plane, blurred by a voxel
    side = np.sign(along - cut[content.argmin()])
    kept = side == np.sign(weight @ side)
    body = np.zeros(density.shape, dtype=np.float32)
    body[tuple(index[kept].astype(np.int64).T)] = weight[kept]
    return body


def fit_beads(
    density: NDArray[np.floating],
    voxel_angstrom: float,
    *,
    beads: int,
    seed: int,
    name: str = "map",
    mass_kilodalton: float = 1.0,
    source: str = "",
) -> BeadModel:
    """Bead model that reproduces a density map.

    Beads start at the k-means of points drawn from the density, and follow the gradient of the squared difference to
    the map in their positions, their masses and one common sigma.

    Parameters
    ----------
    density : (z, y, x)
        What is darker than the map's border, and specks of noise, are left out.
    voxel_angstrom : float
        Maps finer than 10 Å are blurred and resampled to 10 Å.
    beads : int
        Their number, an upper bound: beads that lose all mass are dropped.
    seed : int
        Of the starting places.
    name, mass_kilodalton, source
        As in `fit_bead_model_from_map`.

    Raises
    ------
    InputError
        If nothing is brighter than the border, most is darker, or `beads`, `mass_kilodalton` or the voxel is not
        above 0.
    """
    if beads < 1 or not mass_kilodalton > 0 or not voxel_angstrom > 0:
        raise InputError(
            "expected a number of beads, a mass and a voxel above 0, "
            f"got {beads} beads, {mass_kilodalton} kDa and {voxel_angstrom} Å"
        )
    density, voxel_angstrom = _at_fit_voxel(_above_border(np.asarray(density, dtype=np.float32)), voxel_angstrom)
    body = _without_specks(density)
    box = _box_around(body)
    cleaned = np.where(body[box], density[box], 0).clip(min=0)
    start = _starting_positions(cleaned, beads, np.random.default_rng(seed))
    with _one_torch_thread():
        position, mass, sigma = _descend(cleaned, start)
    mass *= mass_kilodalton / mass.sum()
    model = BeadModel(
        name=name,
        position_zyx_angstrom=centred(position, mass) * voxel_angstrom,
        mass=mass,
        sigma_angstrom=sigma * voxel_angstrom,
        source=source,
        correlation=0.0,
    )
    rendered = render(model, np.eye(3), cleaned.shape, voxel_angstrom, mass @ position / mass.sum())
    return replace(model, correlation=float(np.corrcoef(rendered.ravel(), density[box].ravel())[0, 1]))


def _above_border(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Density over the median of the map's faces, its protein bright, without single voxels that outdo all about them.

    Raises
    ------
    InputError
        If nothing is brighter than the faces, or what is darker stands out more.
    """
    axes = range(density.ndim if density.size else 0)
    faces = [np.take(density, [0, -1], axis=axis).ravel() for axis in axes]
    above = density - np.median(np.concatenate(faces)) if faces else density
    for _ in range(2 if above.size else 0):  # once for what is too bright, once for what is too dark
        above = -_without_lone_voxels(above)
    if above.size == 0 or not above.any():
        raise InputError(f"no density above that of the border in a map of {density.shape} voxels")
    if np.einsum("zyx,zyx,zyx->", above, above, above, dtype=np.float64) <= 0:
        raise InputError("the map is dark where its border is bright; expected bright protein, is it inverted?")
    return above


def _without_lone_voxels(above: NDArray[np.float32]) -> NDArray[np.float32]:
    """Volume in which voxels that rise far above the brightest one beside them are as bright as it."""
    from scipy import ndimage

    others = np.ones((3, 3, 3), dtype=bool)
    others[1, 1, 1] = False
    beside = ndimage.maximum_filter(above, footprint=others, mode="constant", cval=-np.inf).clip(min=0)
    lone = (above > _NOISE_FRACTION * above.max()) & (above > _MOST_OVER_NEIGHBOURS * beside)
    return np.where(lone, beside, above)


def _at_fit_voxel(density: NDArray[np.float32], voxel_angstrom: float) -> tuple[NDArray[np.float32], float]:
    """Density on a grid of 10 Å, if its own is finer by more than a hundredth."""
    from scipy import ndimage

    step = FIT_VOXEL_ANGSTROM / voxel_angstrom
    if step < 1.01:
        return density, voxel_angstrom
    grid = np.meshgrid(*(np.arange(0, length, step) for length in density.shape), indexing="ij")
    blurred = ndimage.gaussian_filter(density, sigma=step / 2, mode="constant")
    return ndimage.map_coordinates(blurred, grid, order=1).astype(np.float32), FIT_VOXEL_ANGSTROM


def _without_specks(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels within 2 of a body that rises above a twentieth of the maximum and is no speck beside the largest one."""
    from scipy import ndimage

    everywhere = np.ones((3, 3, 3), dtype=bool)
    labelled, bodies = ndimage.label(density > _NOISE_FRACTION * density.max(), structure=everywhere)
    content = ndimage.sum_labels(density, labelled, np.arange(1, bodies + 1))
    body = np.isin(labelled, 1 + np.flatnonzero(content >= _NOISE_FRACTION * content.max()))
    return np.asarray(ndimage.binary_dilation(body, structure=everywhere, iterations=_MARGIN_VOXELS))


def _box_around(body: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Smallest box that holds every voxel of a body."""
    inside = np.argwhere(body)
    first, last = inside.min(axis=0), inside.max(axis=0)
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1), slice(first[2], last[2] + 1)


def _starting_positions(density: NDArray[np.float32], beads: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(n, 3)` k-means of points drawn from the density, by Lloyd's iteration."""
    from scipy.spatial import cKDTree

    share = density.ravel() / density.sum(dtype=np.float64)
    voxel = rng.choice(density.size, size=40 * beads, p=share / share.sum())
    point = np.stack(np.unravel_index(voxel, density.shape), axis=1) + rng.uniform(-0.5, 0.5, size=(len(voxel), 3))
    centre = point[:beads]
    for _ in range(10):
        nearest = cKDTree(centre).query(point)[1]
        members = np.bincount(nearest, minlength=len(centre))
        total = np.stack([np.bincount(nearest, point[:, axis], len(centre)) for axis in range(3)], axis=1)
        centre = total[members > 0] / members[members > 0, None]
    return centre


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """The steps are too small to be shared: one thread is faster, and gives the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _descend(
    density: NDArray[np.float32], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Positions, masses and the common sigma, in voxels, that minimise the squared difference to the density."""
    import torch

    target = torch.from_numpy(density / density.mean() * len(start) / density.size)  # one unit of mass per bead
    position = torch.from_numpy(start.astype(np.float32)).requires_grad_()
    root_mass = torch.ones(len(start)).requires_grad_()  # squared, a mass cannot become negative
    log_sigma = torch.zeros(()).requires_grad_()
    optimiser = torch.optim.Adam([position, root_mass, log_sigma], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        share_z, share_y, share_x = (
            _axis_shares(position[:, axis], log_sigma.exp(), length) for axis, length in enumerate(density.shape)
        )
        plane = (share_y[:, :, None] * share_x[:, None, :]).flatten(1)  # (bead, y * x)
        rendered = ((root_mass**2 * share_z.T) @ plane).view(target.shape)
        loss = torch.sum((rendered - target) ** 2) / torch.sum(target**2)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    mass = (root_mass.detach() ** 2).double().numpy()
    kept = mass > 1e-2 * mass.mean()
    return position.detach().double().numpy()[kept], mass[kept], float(log_sigma.detach().exp())


def _axis_shares(position: "torch.Tensor", sigma: "torch.Tensor", length: int) -> "torch.Tensor":
    """`(n, length)` part of each 1D Gaussian in each voxel of an axis, as in `splat`."""
    import torch

    border = torch.arange(length + 1) - 0.5
    return torch.diff(torch.erf((border - position[:, None]) / (sigma * 2**0.5)), dim=1) / 2
