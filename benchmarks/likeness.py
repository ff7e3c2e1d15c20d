"""Whether real tomograms lie among simulated ones by all figures at once: `python -m benchmarks.likeness DIR`.

`kaggle-cryoet calibrate` asks of each figure alone whether the real value occurs. Here the figures of many simulated
tomograms are brought to their principal components, and the real ones are placed among them: how far from the middle
they lie, how much of them no component describes, and, by a linear fit, which nuisances would explain them. DIR is as
in `calibrate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.simulation.calibration import Figures, real_figures, simulated_values
from kaggle_cryoet.simulation.calibration_slices import read_real, slices_like
from kaggle_cryoet.simulation.dataset import simulate_tomogram
from kaggle_cryoet.simulation.network_denoising import DENOISERS, draw_denoising
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES, NuisanceRanges, Uniform
from kaggle_cryoet.simulation.nuisances import Nuisances

Table = NDArray[np.float64]
PARTS: Mapping[str, tuple[str, ...]] = {
    "TS_5_4, slice and particles": ("field, ", "seen in the field", "minimum projections"),
    "TS_100_3, crop": ("crop, ",),
}
"""Figures of one real tomogram each, by what is in the name of their section."""
COMPONENTS = 12
LEAST_RUNS = 4 * COMPONENTS
"""Of fewer simulated tomograms components have no spread that means anything."""
LEAST_KNOWN = 0.8
"""Figures that fewer of the simulated tomograms have are left out."""
MOST_SPREADS = 4.0
"""Figures further from the middle count as being that far."""
RIDGE = 5.0
LEAST_EXPLAINED = 0.2
"""Nuisances of whose variance the figures explain less are not listed."""
SHAPE_ZYX = (184, 320, 320)


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """Where real figures lie among simulated ones."""

    figures: int
    """So many of them."""
    distance: float
    """Of the real ones from the middle, in standard deviations along the components."""
    distances: Table
    """`(n,)` those of the simulated ones, each placed among the others, as the real ones are."""
    residual: float
    """What no component describes of the real figures, in their spreads."""
    residuals: Table
    """`(n,)` that of the simulated ones."""
    simulated_components: Table
    """`(n, COMPONENTS)`, each of unit variance."""
    real_components: Table
    """`(COMPONENTS,)`."""


def place_among(simulated: Table, real: Table) -> Likeness:
    """Place `(k,)` real figures among `(n, k)` simulated ones, of which some may be NaN."""
    known = (np.isfinite(simulated).mean(axis=0) >= LEAST_KNOWN) & np.isfinite(real)
    simulated, real = simulated[:, known], real[known]
    low, middle, high = np.nanquantile(simulated, [0.1587, 0.5, 0.8413], axis=0)
    spread = (high - low) / 2 + 1e-9

    def in_spreads(values: Table) -> Table:
        filled = np.where(np.isfinite(values), values, middle)
        return np.asarray(np.clip((filled - middle) / spread, -MOST_SPREADS, MOST_SPREADS))

    table, row = in_spreads(simulated), in_spreads(real)
    among_others = [_along(np.delete(table, number, axis=0), one) for number, one in enumerate(table)]
    mean, axes, scale = _principal(table)
    components, residual = _along(table, row)
    return Likeness(
        figures=int(known.sum()),
        distance=float(np.linalg.norm(components)),
        distances=np.array([np.linalg.norm(of_one) for of_one, _ in among_others]),
        residual=residual,
        residuals=np.array([beside for _, beside in among_others]),
        simulated_components=(table - mean) @ axes.T / scale,
        real_components=components,
    )


def _principal(table: Table) -> tuple[Table, Table, Table]:
    """Mean of `(n, k)` rows, their `(COMPONENTS, k)` principal axes, and the spread along each."""
    mean = table.mean(axis=0)
    axes = np.linalg.svd(table - mean, full_matrices=False)[2][:COMPONENTS]
    return mean, axes, ((table - mean) @ axes.T).std(axis=0)


def _along(table: Table, row: Table) -> tuple[Table, float]:
    """`(COMPONENTS,)` place of a row along the components of others, in their spreads, and what lies beside them."""
    mean, axes, scale = _principal(table)
    along = (row - mean) @ axes.T
    return along / scale, float(np.linalg.norm(row - mean - along @ axes))


def explain(likeness: Likeness, values: Table) -> tuple[float, float]:
    """Ridge regression of `(n,)` values on the components: share explained in those left out, and the real value."""
    mean, spread = values.mean(), values.std()
    known = np.column_stack([likeness.simulated_components, np.ones(len(values))])
    solution = np.linalg.solve(known.T @ known + RIDGE * np.eye(known.shape[1]), known.T)
    target = (values - mean) / spread
    left_out = (target - known @ solution @ target) / (1 - np.einsum("ij,ji->i", known, solution))
    predicted = np.append(likeness.real_components, 1.0) @ solution @ target
    return 1 - float(np.mean(left_out**2)), float(mean + spread * predicted)


def figure_table(figures: Sequence[Figures], real: Figures, within: tuple[str, ...]) -> tuple[Table, Table]:
    """`(n, k)` simulated and `(k,)` real figures of the sections in whose names one of the texts is."""
    names = [(section, name) for section in real if any(text in section for text in within) for name in real[section]]
    rows = [[next(iter(simulated_values([one], *name)), np.nan) for name in names] for one in figures]
    return np.array(rows, dtype=np.float64), np.array([real[section][name] for section, name in names])


def explained_nuisances(likeness: Likeness, drawn: Sequence[Nuisances], ranges: NuisanceRanges) -> list[str]:
    """Lines of a table: what the figures say of the nuisances of the real tomogram, the best told first."""
    lines = []
    for item in fields(ranges):
        span = getattr(ranges, item.name)
        if not isinstance(span, Uniform):
            continue
        values = np.array([getattr(nuisances, item.name) for nuisances in drawn], dtype=np.float64)
        explained, real = explain(likeness, np.log(values) if span.log else values)
        real = float(np.exp(real)) if span.log else real
        if explained >= LEAST_EXPLAINED:
            lines.append(
                (explained, f"| `{item.name}` | {explained:.2f} | {real:.3g} | {span.low:g} to {span.high:g} |")
            )
    return [line for _, line in sorted(lines, reverse=True)]


@click.command()
@click.argument("real_dir", type=click.Path(path_type=Path))
@click.option("--setting", type=click.Choice(tuple(NUISANCE_RANGES)), default="training", show_default=True)
@click.option("--runs", type=click.IntRange(LEAST_RUNS), default=150, show_default=True, help="Simulated tomograms.")
@click.option("--seed", type=int, default=3000, show_default=True)
@click.option("--denoiser", type=click.Choice(DENOISERS), default="filters", show_default=True)
def main(real_dir: Path, setting: str, runs: int, seed: int, denoiser: str) -> None:
    """Place the real tomograms in REAL_DIR among simulated ones."""
    from tqdm.auto import tqdm

    from kaggle_cryoet.simulation.calibration import figures_of

    try:
        real, picks = read_real(real_dir)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    of_real = real_figures(real, picks)
    drawn, figures = [], []
    for number in tqdm(range(runs), desc="simulating", unit="tomogram", disable=None):
        drawn.append(NUISANCE_RANGES[setting].draw_of_set(seed, number))
        tomogram, truth, _ = simulate_tomogram(
            "simulated",
            seed=(seed, number),
            nuisances=drawn[-1],
            shape_zyx=SHAPE_ZYX,
            denoising=draw_denoising(denoiser, seed, number),
        )
        figures.append(figures_of(slices_like(real, tomogram, truth, np.random.default_rng((seed, number, 1)))))
    for part, within in PARTS.items():
        found = place_among(*figure_table(figures, of_real, within))
        click.echo(f"\n{part}: {found.figures} figures, {COMPONENTS} components, {runs} simulated tomograms\n")
        click.echo("| | real | simulated: median | 90 % | most |\n|---|---|---|---|---|")
        for title, value, values in (
            ("distance from the middle, standard deviations", found.distance, found.distances),
            ("beside the components, spreads", found.residual, found.residuals),
        ):
            median, most_of_them, most = np.quantile(values, [0.5, 0.9, 1])
            click.echo(f"| {title} | {value:.1f} | {median:.1f} | {most_of_them:.1f} | {most:.1f} |")
        click.echo("\n| nuisance | share explained | of the real one | range |\n|---|---|---|---|")
        click.echo("\n".join(explained_nuisances(found, drawn, NUISANCE_RANGES[setting])))


if __name__ == "__main__":
    main()
