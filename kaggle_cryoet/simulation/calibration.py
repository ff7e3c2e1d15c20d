"""Hold simulated tomograms against the public slices and picks of real ones: a table and two pictures."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM, angstrom_to_index
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks, read_copick
from kaggle_cryoet.simulation import slice_statistics as statistics
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.simulation.population import HABITS, REAL_SHAPE_ZYX
from kaggle_cryoet.tomogram import Tomogram

logger = logging.getLogger(__name__)

CROP_FILE = "real/TS_100_3_denoised_crop128_9slices.npz"
SLICE_FILE = "real/TS_5_4_z98_inverted8bit.png"
PROJECTIONS_FILE = "real/ribosome_minproj_crops_30x30_8bit.npz"
PICKS_DIRECTORY = "picks/overlay/ExperimentRuns"
SLICE_RUN, SLICE_Z = "TS_5_4", 98
NEAR_VOXELS = 8.0
"""Picks within so many voxels of the slice are seen in it."""
PLANES = ("xy", "xz", "yz")
PROJECTION_EDGE = 30

Figures = dict[str, dict[str, float]]
"""Values by section and name."""


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
        If a file is missing.
    """
    from PIL import Image

    directory = Path(directory)
    for name in (CROP_FILE, SLICE_FILE, PROJECTIONS_FILE, PICKS_DIRECTORY):
        if not (directory / name).exists():
            raise InputError(f"{directory}: expected {name} in it, with the slices and picks of real tomograms")
    with np.load(directory / CROP_FILE) as crops:
        planes = {plane: [crops[name] for name in crops.files if name.startswith(plane)] for plane in PLANES}
    with Image.open(directory / SLICE_FILE) as image:
        field = statistics.in_spreads(255.0 - np.asarray(image.convert("L"), dtype=np.float64))  # stored inverted
    picks = {path.name: read_copick(path / "Picks") for path in sorted((directory / PICKS_DIRECTORY).iterdir())}
    index = angstrom_to_index(picks[SLICE_RUN].position_zyx_angstrom, CZII_VOXEL_ANGSTROM)
    near = np.abs(index[:, 0] - SLICE_Z) <= NEAR_VOXELS
    seen = {
        label: [(field, centre) for centre in index[near & (picks[SLICE_RUN].label == label), 1:]]
        for label in range(len(PARTICLES))
    }
    with np.load(directory / PROJECTIONS_FILE) as stored:
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
            (shown(round(z + offset)), np.array([y, x])) for (z, y, x), offset in zip(index[chosen], offsets, strict=True)
        ]
    ribosomes = np.round(index[picks.label == [p.name for p in PARTICLES].index("ribosome")]).astype(int)
    half = PROJECTION_EDGE // 2
    boxes = [volume[z - half : z + half, y - half : y + half, x - half : x + half] for z, y, x in ribosomes]
    whole = [box for box in boxes if box.shape == (PROJECTION_EDGE,) * 3]
    return SliceSet(
        planes={plane: [statistics.in_spreads(cut) for cut in cut_planes] for plane, cut_planes in planes.items()},
        spread=float(np.median([statistics.spread(cut) for cut_planes in planes.values() for cut in cut_planes])),
        field=shown(round(SLICE_Z * depth / REAL_SHAPE_ZYX[0])),
        window=real.window,
        seen=seen,
        projections=[box.min(axis=0).astype(np.float64) for box in whole[: len(real.projections)]],
    )


def figures_of(slices: SliceSet) -> Figures:
    """All figures of a set of slices, by section."""
    figures: Figures = {"stored intensities": {"spread, 1e-6": 1e6 * slices.spread}}
    for plane in PLANES:
        figures[f"crop, {plane}: intensities in spreads"] = statistics.intensities(slices.planes[plane])
    figures["crop, xy: dark spots per 10⁴ px"] = statistics.dark_spots(slices.planes["xy"])
    figures["crop, xy: power, dB"] = statistics.radial_power(slices.planes["xy"])
    background = [patch for image in slices.planes["xy"] for patch in statistics.background_patches(image)]
    if background:
        figures["crop, xy: power of the background, dB"] = statistics.radial_power(background)
    figures["crop, xz: power by angle (missing wedge), dB"] = statistics.wedge(slices.planes["xz"])
    for plane, axis, name in (("xy", 0, "y"), ("xy", 1, "x"), ("xz", 0, "z")):
        lags = (1, 2, 3, 4, 6) if plane == "xy" else (1, 2, 4, 6, 8, 12, 16)
        found = statistics.autocorrelation(slices.planes[plane], axis, lags)
        figures[f"crop, {plane}: background autocorrelation along {name}"] = found
    figures["field, xy, 8 bit: intensities in spreads"] = statistics.intensities([slices.field])
    figures["field, xy, 8 bit: dark spots per 10⁴ px"] = statistics.dark_spots([slices.field])
    figures["field, xy, 8 bit: power, dB"] = statistics.radial_power([slices.field])
    for label, particle in enumerate(PARTICLES):
        found = [
            statistics.particle_figures(image, centre, particle.radius_angstrom / CZII_VOXEL_ANGSTROM)
            for image, centre in slices.seen[label]
        ]
        if not found:
            continue
        section = figures.setdefault(f"{particle.name}, {len(found)} seen in the field", {})
        section |= {name: float(np.mean([item[name] for item in found])) for name in found[0]}
        profiles = [statistics.radial_profile(image, centre, 20.0) for image, centre in slices.seen[label]]
        step = statistics.PROFILE_STEP_VOXELS
        for ring, value in enumerate(np.nanmean(profiles, axis=0)):
            section[f"mean at {step * ring:.0f} to {step * (ring + 1):.0f} voxels"] = float(value)
    if slices.projections:
        figures["ribosome, minimum projections, 0 to 1"] = statistics.projection_figures(slices.projections)
    return figures


def figures_of_picks(picks: Picks) -> Figures:
    """Numbers, depths and neighbours of the particles of one tomogram."""
    from scipy.spatial import cKDTree

    figures: Figures = {}
    z = picks.position_zyx_angstrom[:, 0] / CZII_VOXEL_ANGSTROM
    figures["picks: height z, voxels"] = {
        f"quantile {100 * share:g} %": float(np.quantile(z, share)) for share in (0.02, 0.25, 0.5, 0.75, 0.98)
    }
    number, near, touching = {}, {}, {}
    for label, particle in enumerate(PARTICLES):
        position = picks.position_zyx_angstrom[picks.label == label]
        number[particle.name] = float(len(position))
        if len(position) > 1:
            distance = cKDTree(position).query(position, k=2)[0][:, 1]
            near[particle.name] = float(np.median(distance))
            contact = 2.4 * HABITS[particle.name].contact_radius_angstrom
            touching[particle.name] = float((distance < contact).mean())
    figures["picks: number per tomogram"] = number
    figures["picks: median distance to the next of the kind, Å"] = near
    figures["picks: share in contact with one of the kind"] = touching
    return figures


def simulated(
    real: SliceSet, seeds: Sequence[int], *, shape_zyx: tuple[int, int, int] = REAL_SHAPE_ZYX
) -> tuple[list[SliceSet], list[Figures]]:
    """Slices and figures of one simulated tomogram per seed."""
    from tqdm.auto import tqdm

    slices: list[SliceSet] = []
    figures: list[Figures] = []
    for seed in tqdm(seeds, desc="calibrating", unit="tomogram", disable=None):
        tomogram, picks, _ = simulate_tomogram(f"seed {seed}", seed=(seed, 0), shape_zyx=shape_zyx)
        slices.append(slices_like(real, tomogram, picks, np.random.default_rng((seed, 1))))
        figures.append(figures_of(slices[-1]) | figures_of_picks(picks))
    return slices, figures


def real_figures(real: SliceSet, picks: Mapping[str, Picks]) -> Figures:
    """Figures of the real slices, and medians over tomograms of those of the real picks."""
    of_runs = [figures_of_picks(item) for item in picks.values()]
    medians = {
        section: {
            name: float(np.median([found[section][name] for found in of_runs if name in found[section]]))
            for name in of_runs[0][section]
        }
        for section in of_runs[0]
    }
    return figures_of(real) | medians


def table(real: Figures, simulations: Sequence[Figures]) -> str:
    """Markdown: each real figure, the least, middle and largest of the simulated ones, and whether these bracket it."""
    lines = []
    bracketed, total = 0, 0
    for section, values in real.items():
        lines += [
            f"### {section}",
            "",
            f"| figure | real | simulated, least to largest of {len(simulations)} | median | brackets |",
            "|---|---|---|---|---|",
        ]
        for name, value in values.items():
            found = _values(simulations, section, name)
            rounding = 1e-6 * abs(value)
            within = bool(len(found)) and found.min() - rounding <= value <= found.max() + rounding
            bracketed, total = bracketed + within, total + 1
            span = f"{found.min():.3g} to {found.max():.3g} | {np.median(found):.3g}" if len(found) else "none |"
            lines.append(f"| {name} | {value:.3g} | {span} | {'yes' if within else '**no**'} |")
        lines.append("")
    return "\n".join([f"{bracketed} of {total} real figures lie within the simulated ones.", "", *lines])


def _values(simulations: Sequence[Figures], section: str, name: str) -> NDArray[np.float64]:
    """Simulated values of a figure; a tomogram may hold fewer particles of a type than are seen in the real slice."""
    stem = section.split(", ")[0] if " seen in the field" in section else None
    found = []
    for figures in simulations:
        for other, values in figures.items():
            same = other == section or (stem is not None and other.startswith(f"{stem}, ") and " seen in" in other)
            if same and name in values and np.isfinite(values[name]):
                found.append(values[name])
    return np.array(found)


def calibrate(
    real_directory: str | Path,
    *,
    output: str | Path,
    seeds: Sequence[int] = range(10),
    shape_zyx: tuple[int, int, int] = REAL_SHAPE_ZYX,
) -> list[Path]:
    """Write the table `calibration.md` and the pictures of `draw_pictures`.

    Of the simulated tomograms the pictures show the one whose intensities are most like those of the real slices.

    Parameters
    ----------
    real_directory
        As in `read_real`.
    output
        Folder of what is written, made if missing. Pictures of real slices are in it.
    seeds
        One simulated tomogram each.
    shape_zyx
        Its voxels; the real ones' by default, 128 or more along each edge.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If real data are missing, there is no seed, or an edge is too short.
    """
    from kaggle_cryoet.simulation.calibration_pictures import draw_pictures

    real, picks = read_real(real_directory)
    if not len(seeds) or min(shape_zyx) < real.planes["xy"][0].shape[0]:
        raise InputError(
            f"expected one seed or more and edges of at least {real.planes['xy'][0].shape[0]} voxels, "
            f"got {len(seeds)} seeds and {shape_zyx}"
        )
    slices, simulations = simulated(real, seeds, shape_zyx=shape_zyx)
    figures = real_figures(real, picks)
    likest = int(np.argmin([_difference(figures, found) for found in simulations]))
    directory = Path(output)
    written = draw_pictures(real, slices[likest], directory)
    written.append(directory / "calibration.md")
    written[-1].write_text(table(figures, simulations) + "\n", encoding="utf8")
    return written


def _difference(real: Figures, other: Figures) -> float:
    """Mean absolute difference of the intensity figures."""
    sections = [section for section in real if "intensities in spreads" in section]
    return float(np.mean([abs(real[name][key] - other[name][key]) for name in sections for key in real[name]]))
