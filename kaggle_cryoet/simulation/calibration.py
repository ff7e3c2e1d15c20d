"""Hold simulated tomograms against the public slices and picks of real ones: a table and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation import slice_statistics as statistics
from kaggle_cryoet.simulation.calibration_pictures import draw_pictures
from kaggle_cryoet.simulation.calibration_slices import PLANES, SliceSet, read_real, slices_like
from kaggle_cryoet.simulation.dataset import run_name, simulate_tomogram
from kaggle_cryoet.simulation.network_denoising import check_denoiser, draw_denoising
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.population import HABITS

MOST_SPREADS = 3.0
"""A figure that is further from the real one counts as being so many spreads of the simulated ones away."""
Figures = dict[str, dict[str, float]]
"""Values by section and name."""


def figures_of(slices: SliceSet) -> Figures:
    """All figures of a set of slices, by section."""
    figures: Figures = {"stored intensities": {"spread, 1e-6": 1e6 * slices.spread}}
    for plane in PLANES:
        figures[f"crop, {plane}: intensities in spreads"] = statistics.intensities(slices.planes[plane])
    figures["crop, xy: dark spots per 10⁴ px"] = statistics.dark_spots(slices.planes["xy"])
    figures["crop, xy: dark dots"] = statistics.dark_dots(slices.planes["xy"])
    figures["crop, xy: power, dB"] = statistics.radial_power(slices.planes["xy"])
    for name, images in (("crop", slices.planes["xy"]), ("field", [slices.field])):
        background = [patch for image in images for patch in statistics.background_patches(image)]
        if not background:
            continue
        if name == "crop":
            figures["crop, xy: power of the background, dB"] = statistics.radial_power(background)
        for axis, along in enumerate("yx"):
            figures[f"{name}, xy: power of the background along {along}, dB"] = statistics.axial_power(background, axis)
    figures["crop, xz: power by angle (missing wedge), dB"] = statistics.wedge(slices.planes["xz"])
    for plane, axis, name in (("xy", 0, "y"), ("xy", 1, "x"), ("xz", 0, "z")):
        lags = (1, 2, 3, 4, 6) if plane == "xy" else (1, 2, 4, 6, 8, 12, 16)
        found = statistics.autocorrelation(slices.planes[plane], axis, lags)
        figures[f"crop, {plane}: background autocorrelation along {name}"] = found
    figures["field, xy, 8 bit: intensities in spreads"] = statistics.intensities([slices.field])
    figures["field, xy, 8 bit: dark spots per 10⁴ px"] = statistics.dark_spots([slices.field])
    figures["field, xy, 8 bit: dark dots"] = statistics.dark_dots([slices.field])
    figures["field, xy, 8 bit: power, dB"] = statistics.radial_power([slices.field])
    for label, particle in enumerate(PARTICLES):
        measured = [
            statistics.particle_figures(image, centre, particle.radius_angstrom / CZII_VOXEL_ANGSTROM)
            for image, centre in slices.seen[label]
        ]
        if not measured:
            continue
        section = figures.setdefault(f"{particle.name}, {len(measured)} seen in the field", {})
        section |= {name: float(np.mean([item[name] for item in measured])) for name in measured[0]}
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
        f"quantile {100 * share:g} %": float(np.quantile(z, share)) for share in (0.02, 0.25, 0.5, 0.75, 0.98) if len(z)
    }
    number: dict[str, float] = {}
    near: dict[str, float] = {}
    touching: dict[str, float] = {}
    for label, particle in enumerate(PARTICLES):
        position = picks.position_zyx_angstrom[picks.label == label]
        number[particle.name] = float(len(position))
        if len(position) > 1:
            distance = np.asarray(cKDTree(position).query(position, k=2)[0])[:, 1]
            near[particle.name] = float(np.median(distance))
            contact = 2.4 * HABITS[particle.name].contact_radius_angstrom
            touching[particle.name] = float((distance < contact).mean())
    figures["picks: number per tomogram"] = number
    figures["picks: median distance to the next of the kind, Å"] = near
    figures["picks: share in contact with one of the kind"] = touching
    return figures


def simulated(
    real: SliceSet,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    shape_zyx: tuple[int, int, int] = CZII_SHAPE_ZYX,
    denoiser: str = "filters",
) -> tuple[list[SliceSet], list[Figures]]:
    """Slices and figures of the simulated tomograms of a set that have these numbers."""
    from tqdm.auto import tqdm

    slices: list[SliceSet] = []
    figures: list[Figures] = []
    for number in tqdm(numbers, desc="calibrating", unit="tomogram", disable=None):
        nuisances = NUISANCE_RANGES["training"].draw_of_set(seed, number)
        tomogram, picks, _ = simulate_tomogram(
            run_name(seed, number),
            seed=(seed, number),
            nuisances=nuisances,
            shape_zyx=shape_zyx,
            denoising=draw_denoising(denoiser, seed, number),
        )
        slices.append(slices_like(real, tomogram, picks, np.random.default_rng((seed, number, 1))))
        figures.append(figures_of(slices[-1]) | figures_of_picks(picks))
    return slices, figures


def real_figures(real: SliceSet, picks: Mapping[str, Picks]) -> Figures:
    """Figures of the real slices, and medians over tomograms of those of the real picks."""
    of_runs = [figures_of_picks(item) for item in picks.values()]
    medians = {
        section: {
            name: float(np.median([found[section][name] for found in of_runs if name in found[section]]))
            for name in dict.fromkeys(name for found in of_runs for name in found[section])
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
            found = simulated_values(simulations, section, name)
            rounding = 1e-6 * abs(value)
            within = bool(len(found) and found.min() - rounding <= value <= found.max() + rounding)
            bracketed, total = bracketed + within, total + 1
            span = f"{found.min():.3g} to {found.max():.3g} | {np.median(found):.3g}" if len(found) else "none |"
            lines.append(f"| {name} | {value:.3g} | {span} | {'yes' if within else '**no**'} |")
        lines.append("")
    return "\n".join([f"{bracketed} of {total} real figures lie within the simulated ones.", "", *lines])


def simulated_values(simulations: Sequence[Figures], section: str, name: str) -> NDArray[np.float64]:
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
    tomograms: int = 10,
    seed: int = 0,
    shape_zyx: tuple[int, int, int] = CZII_SHAPE_ZYX,
    denoiser: str = "filters",
) -> list[Path]:
    """Write the table `calibration.md` and the pictures of `draw_pictures`, into a folder that is made first.

    Of the simulated tomograms the pictures show the one that is most like the real slices.

    Parameters
    ----------
    real_directory
        As in `read_real`.
    output
        Folder of what is written, made if missing. Pictures of real slices are in it.
    tomograms
        How many are simulated: the first of the set that `simulate` makes of the seed.
    seed
        Source of all chance.
    shape_zyx
        Its voxels; the real ones' by default, 128 or more along each edge.
    denoiser
        As in `simulate`.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If real data are missing or broken, there is no tomogram to simulate, an edge is too short, the seed is
        negative, or the denoiser unknown.
    """
    if seed < 0:
        raise InputError(f"the seed must not be negative, got {seed}")
    check_denoiser(denoiser)
    real, picks = read_real(real_directory)
    if tomograms < 1 or min(shape_zyx) < real.planes["xy"][0].shape[0]:
        raise InputError(
            f"expected one tomogram or more and edges of at least {real.planes['xy'][0].shape[0]} voxels, "
            f"got {tomograms} tomograms and {shape_zyx}"
        )
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)  # before minutes of work
    slices, simulations = simulated(real, range(tomograms), seed=seed, shape_zyx=shape_zyx, denoiser=denoiser)
    figures = real_figures(real, picks)
    written = draw_pictures(real, slices[most_alike(figures, simulations)], directory)
    written.append(directory / "calibration.md")
    written[-1].write_text(table(figures, simulations) + "\n", encoding="utf8")
    return written


def most_alike(real: Figures, simulations: Sequence[Figures]) -> int:
    """Which of the simulated tomograms is nearest to the real one: the mean over all figures, in their spreads."""
    distances: list[NDArray[np.float64]] = []
    for section, values in real.items():
        for name, value in values.items():
            found = np.array([next(iter(simulated_values([one], section, name)), np.nan) for one in simulations])
            spread = np.nanstd(found) if np.isfinite(found).any() else 0.0
            if spread > 0:
                distances.append(np.abs(found - value).clip(max=MOST_SPREADS * spread) / spread)
    return int(np.nanargmin(np.nanmean(distances, axis=0))) if distances else 0
