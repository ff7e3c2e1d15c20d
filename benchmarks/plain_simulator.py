"""Tomograms of another kind than ours, to try networks on: `python -m benchmarks.plain_simulator MAPS OUTPUT`.

Nothing of our simulator's specimen or microscope is in them: density maps themselves, turned, without overlap, among
complexes, small proteins and vesicles; white noise; a missing wedge; no contrast transfer, no ice, no denoiser. That is
how simulators such as polnet work (Martinez-Sanchez et al., IEEE Trans. Med. Imaging 43, 2024). MAPS holds `<pdb>.mrc`
at 10 Å per voxel for every entry of `BEAD_SOURCES`. OUTPUT gets a folder for each of `IMAGINGS`, in the competition's
layout, for `python -m benchmarks.branches OUTPUT/noisy`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, binary_dilation, center_of_mass
from scipy.spatial.transform import Rotation

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.bead_sources import BEAD_SOURCES
from kaggle_cryoet.simulation.density_map import read_map
from kaggle_cryoet.simulation.run_folder import write_run
from kaggle_cryoet.tomogram import Tomogram

Volume = NDArray[np.float32]
VOXEL_ANGSTROM = 10.0
SMALL_KILODALTON = 100.0
"""Maps below this stand for small proteins."""
BODY_SHARE = 0.12
"""A particle's body is where its density is above this share of its peak."""
ATTEMPTS = 200
"""A particle that finds no room in so many places is left out."""
MEMBRANE_SHARE = 0.5
"""Density of a leaflet, relative to the peak of apo-ferritin."""


@dataclass(frozen=True, kw_only=True)
class Imaging:
    """What becomes of a specimen."""

    signal_to_noise: float
    """Variance of what the specimen leaves inside the tilt range over that of the noise there."""
    tilt_range_degree: float
    blur_voxels: float = 0.0
    """Standard deviation of a Gaussian, of signal and noise."""
    proteins_per_cubic_micrometre: float = 0.0
    """Small proteins of the specimen."""
    complexes_per_cubic_micrometre: float = 1000.0
    """Unlabelled large ones."""


IMAGINGS = {
    "clear": Imaging(signal_to_noise=10, tilt_range_degree=60),
    "noisy": Imaging(signal_to_noise=0.3, tilt_range_degree=60),
    "raw": Imaging(signal_to_noise=0.05, tilt_range_degree=45),
    "smooth": Imaging(signal_to_noise=0.1, tilt_range_degree=45, blur_voxels=1.5),
    "crowded": Imaging(
        signal_to_noise=0.3,
        tilt_range_degree=45,
        blur_voxels=1.0,
        proteins_per_cubic_micrometre=3e5,
        complexes_per_cubic_micrometre=2000.0,
    ),
}


def read_maps(directory: Path) -> dict[str, Volume]:
    """Density of each entry of `BEAD_SOURCES`, in kilodalton per voxel.

    Raises
    ------
    InputError
        If a map is missing or broken, or its voxel is not of 10 Å.
    """
    maps: dict[str, Volume] = {}
    for source in BEAD_SOURCES:
        density, voxel_angstrom = read_map(directory / f"{source.pdb}.mrc")
        if abs(voxel_angstrom - VOXEL_ANGSTROM) > 0.01:
            raise InputError(f"{source.pdb}.mrc: expected voxels of {VOXEL_ANGSTROM:g} Å, got {voxel_angstrom:g} Å")
        positive = np.maximum(density, 0)
        maps[source.name] = positive * np.float32(source.mass_kilodalton * source.bodies / positive.sum())
    return maps


def turned(density: Volume, centre_offset: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """A map in a random orientation, its centre of mass so far off the middle of a box that holds it."""
    centre = np.array(center_of_mass(density))
    body = np.argwhere(density > BODY_SHARE * density.max())
    edge = 2 * int(np.ceil(np.linalg.norm(body - centre, axis=1).max())) + 5
    rotation = Rotation.random(random_state=rng).as_matrix()
    middle = np.full(3, edge // 2) + centre_offset
    return np.asarray(affine_transform(density, rotation, centre - rotation @ middle, (edge,) * 3, order=1))


class Specimen:
    """A volume that is filled bit by bit, nothing over anything else."""

    def __init__(self, shape_zyx: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.density = np.zeros(shape_zyx, dtype=np.float32)
        self.taken = np.zeros(shape_zyx, dtype=np.bool_)
        self.rng = rng

    def add_vesicle(self, peak: float) -> None:
        """Add a sphere of two leaflets, anywhere."""
        radius, centre = self.rng.uniform(15, 70), self.rng.uniform(0, self.density.shape)
        grid = np.ogrid[tuple(slice(edge) for edge in self.density.shape)]
        squares = [(axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)]
        height = np.sqrt(squares[0] + squares[1] + squares[2]) - radius
        near = np.abs(height) < 8
        self.density[near] += peak * np.exp(-0.5 * ((np.abs(height[near]) - 2) / 1.2) ** 2)
        self.taken |= near

    def add(self, density: Volume) -> NDArray[np.float64] | None:
        """Add a map somewhere, and return its centre zyx in voxels; None if there is no room."""
        offset = self.rng.uniform(-0.5, 0.5, 3)
        box = turned(density, offset, self.rng)
        body = box > BODY_SHARE * density.max()
        kept_free = binary_dilation(body)
        edge = len(box)
        for _ in range(ATTEMPTS):
            low = [int(self.rng.integers(max(length - edge, 0) + 1)) for length in self.density.shape]
            place = tuple(slice(start, start + edge) for start in low)
            if self.taken[place].shape == box.shape and not (self.taken[place] & kept_free).any():
                self.density[place] += box
                self.taken[place] |= body
                return np.array(low) + edge // 2 + offset
        return None


def draw_specimen(
    maps: dict[str, Volume], imaging: Imaging, shape_zyx: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Volume, Picks]:
    """Density and the particles in it: as many as in the competition's tomograms, and four vesicles."""
    specimen = Specimen(shape_zyx, rng)
    for _ in range(4):
        specimen.add_vesicle(MEMBRANE_SHARE * float(maps["apo-ferritin"].max()))
    cubic_micrometres = np.prod(shape_zyx) * (VOXEL_ANGSTROM * 1e-4) ** 3
    small = [name for name, source in zip(maps, BEAD_SOURCES, strict=True) if source.mass_kilodalton < SMALL_KILODALTON]
    large = [name for name in maps if name not in small and name not in PARTICLE_NAMES]
    share = np.prod(shape_zyx) / np.prod(CZII_SHAPE_ZYX)
    names = [particle.name for particle in PARTICLES for _ in range(rng.poisson(particle.mean_count * share))]
    for others, density in (
        (large, imaging.complexes_per_cubic_micrometre),
        (small, imaging.proteins_per_cubic_micrometre),
    ):
        names += [str(name) for name in rng.choice(others, round(density * cubic_micrometres))]
    labels, centres = [], []
    for name in sorted(names, key=lambda name: -maps[name].sum()):
        centre = specimen.add(maps[name])
        if centre is not None and name in PARTICLE_NAMES:
            labels.append(PARTICLE_NAMES.index(name))
            centres.append(centre * VOXEL_ANGSTROM)
    picks = Picks(position_zyx_angstrom=np.array(centres).reshape(-1, 3), label=np.array(labels, dtype=np.int64))
    return specimen.density, picks


def record(density: Volume, imaging: Imaging, rng: np.random.Generator) -> Volume:
    """What a reconstruction shows of a specimen: dark on bright, what lies outside the tilt range about y lost."""
    z, y, x = (np.fft.fftfreq(edge).astype(np.float32) for edge in density.shape)
    z, y, x = z[:, None, None], y[:, None], x[: density.shape[2] // 2 + 1]
    seen = np.abs(z) <= np.tan(np.radians(imaging.tilt_range_degree)) * np.abs(x) + 1 / density.shape[0]

    def through(volume: Volume, gain: NDArray[np.float32] | NDArray[np.bool_]) -> Volume:
        spectrum = scipy.fft.rfftn(volume)
        spectrum *= gain
        return np.asarray(scipy.fft.irfftn(spectrum, volume.shape))

    signal = through(density - density.mean(), seen)
    noise = through(rng.standard_normal(density.shape, dtype=np.float32), seen)
    noise *= signal.std() / noise.std() / np.float32(imaging.signal_to_noise**0.5)
    blur = np.exp(-2 * (np.pi * imaging.blur_voxels) ** 2 * (z**2 + y**2 + x**2))
    return -through(signal + noise, blur)


@click.command()
@click.argument("maps", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--kind", "kinds", type=click.Choice(list(IMAGINGS)), multiple=True, help="Imaging; all if not given.")
@click.option("--runs", type=int, default=3, show_default=True, help="Tomograms of each kind.")
@click.option("--shape", type=int, nargs=3, default=(184, 320, 320), show_default=True, metavar="Z Y X")
@click.option("--seed", type=int, default=0, show_default=True)
def main(maps: Path, output: Path, kinds: tuple[str, ...], runs: int, shape: tuple[int, int, int], seed: int) -> None:
    """Write labelled tomograms made of the density maps in MAPS into a folder in OUTPUT for each kind of imaging."""
    if output.exists() and any(output.iterdir()):
        raise click.ClickException(f"{output}: is not empty; expected a new folder")
    try:
        densities = read_maps(maps)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    for name in kinds or IMAGINGS:
        imaging = IMAGINGS[name]
        for number in range(runs):
            rng = np.random.default_rng((seed, number))
            density, picks = draw_specimen(densities, imaging, shape, rng)
            run = f"PLAIN_{seed}_{number}"
            tomogram = Tomogram(data=record(density, imaging, rng), voxel_angstrom=VOXEL_ANGSTROM, name=run)
            provenance = {"imaging": asdict(imaging), "seed": seed, "number": number}
            write_run(output / name, run, {"denoised": tomogram}, picks, provenance)
        click.echo(output / name)


if __name__ == "__main__":
    main()
