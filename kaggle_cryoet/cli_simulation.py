"""The verbs of the command line that make tomograms, or what tomograms are made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kaggle_cryoet.errors import InputError

denoiser_option = click.option(
    "--denoiser",
    default="filters",
    show_default=True,
    help="What denoises: filters, a network, or either, in turns.",
)


@click.command()
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--runs", type=int, help="Number of tomograms; if not given, one, or one for each run in --picks.")
@click.option("--shape", nargs=3, type=int, default=(184, 630, 630), show_default=True, metavar="Z Y X", help="Voxels.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--setting", default="training", show_default=True, help="Distribution of nuisances: training, wide or shifted."
)
@click.option(
    "--difficulty",
    type=float,
    default=0.0,
    show_default=True,
    help="From -1 to 1: more draws from the easier or the harder part of each range.",
)
@click.option(
    "--type",
    "tomogram_types",
    multiple=True,
    default=("denoised",),
    show_default=True,
    help="Reconstruction: denoised, isonetcorrected, ctfdeconvolved or wbp; may be repeated.",
)
@denoiser_option
@click.option("--map", "maps", multiple=True, metavar="NAME=FILE.mrc", help="Density map of a particle type to use.")
@click.option("--picks", "picks_dir", type=click.Path(path_type=Path), help="Place the particles as in these labels.")
def simulate(
    output_dir: Path,
    runs: int | None,
    shape: tuple[int, int, int],
    seed: int,
    setting: str,
    difficulty: float,
    tomogram_types: tuple[str, ...],
    denoiser: str,
    maps: tuple[str, ...],
    picks_dir: Path | None,
) -> None:
    """Write labelled tomograms in the competition's layout."""
    from kaggle_cryoet.metric import read_truth
    from kaggle_cryoet.simulation.dataset import simulate as simulate_runs
    from kaggle_cryoet.simulation.request import check_request
    from kaggle_cryoet.simulation.user_maps import fit_user_maps

    picks = None if picks_dir is None else list(read_truth(picks_dir).values())
    if runs is None:
        runs = len(picks) if picks else 1
    request: dict[str, Any] = {
        "runs": runs,
        "shape_zyx": shape,
        "seed": seed,
        "setting": setting,
        "difficulty": difficulty,
        "counts": None,
        "picks": picks,
        "tomogram_types": tomogram_types,
        "denoiser": denoiser,
    }
    check_request(**request)  # before maps are fitted, which takes a while
    models = fit_user_maps(_files_by_name(maps)) or None
    names = simulate_runs(output_dir, **request, bead_models=models, progress=True)
    click.echo(f"{len(names)} labelled tomograms: {output_dir}")


@click.command()
@click.argument("maps_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
def beads(maps_dir: Path, output_dir: Path) -> None:
    """Fit the simulator's bead models to the density maps (.mrc) in MAPS_DIR."""
    from kaggle_cryoet.simulation.bead_sources import fit_all

    for model in fit_all(maps_dir, output_dir):
        click.echo(f"{model.name:<24}{len(model.mass):>5} beads{model.mass.sum():>8.0f} kDa  {model.correlation:.4f}")


@click.command()
@click.argument("real_dir", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("calibration"), show_default=True)
@click.option("--tomograms", type=int, default=10, show_default=True, help="Number of simulated tomograms.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--shape", nargs=3, type=int, default=(184, 630, 630), show_default=True, metavar="Z Y X", help="Voxels.")
@denoiser_option
def calibrate(
    real_dir: Path, output: Path, tomograms: int, seed: int, shape: tuple[int, int, int], denoiser: str
) -> None:
    """Compare simulated tomograms with real slices and picks in REAL_DIR: a table and pictures."""
    from kaggle_cryoet.simulation.calibration import calibrate as compare

    for path in compare(real_dir, output=output, tomograms=tomograms, seed=seed, shape_zyx=shape, denoiser=denoiser):
        click.echo(path)


def _files_by_name(texts: Sequence[str]) -> dict[str, str]:
    """Files of several `NAME=FILE`, no name twice."""
    files: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise InputError(f"expected NAME=FILE.mrc, got {text!r}")
        if name in files:
            raise InputError(f"expected one map of {name}, got {files[name]} and {file}")
        files[name] = file
    return files
