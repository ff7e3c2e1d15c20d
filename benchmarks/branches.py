"""The branches and the public notebook's merge side by side on labelled tomograms: `python -m benchmarks.branches`.

All of them are given the same answers of the same networks, so that only what is made of those answers differs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.notebook_merge import merge_as_notebook
from kaggle_cryoet.cli_options import own_statistics_option
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picking.branches import BRANCHES, MODELS, SHIPPED_WEIGHTS
from kaggle_cryoet.picking.pickers import Picker, UNetPicker, YoloPicker, load_pickers
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import Tomogram, read_tomogram

MERGES = {"notebook's merge": 1, "the same, both must agree": 2}
"""Least number of points of a cluster, by name."""
CHOICES = {"": False, " --strict": True}
"""Whether picks are what is above thresholds, by the option of the command line."""


def available_pickers(weights: Path) -> dict[str, Picker]:
    """The pickers of the branches whose models are in a folder, simple ones first."""
    found: dict[str, Picker] = {}
    for branch in BRANCHES:  # the hybrid comes first, and brings the others
        if branch not in found and all((weights / name).is_dir() for name in MODELS[branch]):
            found |= load_pickers(branch, weights)
    if not found:
        raise click.ClickException(f"{weights}: holds no models; expected {' or '.join(MODELS['hybrid'])}")
    return {branch: found[branch] for branch in ("unet", "yolo", "hybrid") if branch in found}


def pick_by_all(tomogram: Tomogram, pickers: Mapping[str, Picker], settings: PickSettings) -> dict[str, Picks]:
    """Picks of one tomogram by each branch and by the notebook's merge; each network looks at it once."""
    import torch

    from kaggle_cryoet.picking.adapt import adapt
    from kaggle_cryoet.picking.equalise import show
    from kaggle_cryoet.picking.normalise import normalise
    from kaggle_cryoet.picking.tilt_axis import facing_y

    adapted, exchanged = facing_y(adapt(tomogram, settings.adapt), settings.adapt.tilt_axis)
    volume, voxel = normalise(adapted.data), adapted.voxel_angstrom
    shown = show(volume, {spectrum for picker in pickers.values() for spectrum in picker.spectra})
    seen: dict[str, Any] = {
        branch: picker.look(shown, settings, torch.device("cpu"))
        for branch, picker in pickers.items()
        if isinstance(picker, (UNetPicker, YoloPicker))
    }
    if "unet" in seen and "yolo" in seen:
        seen["hybrid"] = seen["unet"], seen["yolo"]
    picks = {
        f"{branch}{option}": picker.decide(
            seen[branch], volume.shape, voxel, replace(settings, branch=branch, strict=strict)
        )
        for branch, picker in pickers.items()
        for option, strict in CHOICES.items()
    }
    if "hybrid" in seen:
        grid, _ = seen["hybrid"]
        every_slice = replace(settings, detect=replace(settings.detect, stride_z=1))  # by which its rules count
        boxes = pickers["yolo"].look(shown, every_slice, torch.device("cpu"))
        for name, least_points in MERGES.items():
            picks[name] = merge_as_notebook(grid, boxes, voxel_angstrom=voxel, least_points=least_points)
    return {name: found.with_y_and_x_exchanged() if exchanged else found for name, found in picks.items()}


def score_table(scores: Mapping[str, Score]) -> str:
    """Markdown: a row for each way of picking, F-beta with precision and recall for each particle type."""
    lines = [
        f"| | score | {' | '.join(PARTICLE_NAMES)} |",
        "|---" * (2 + len(PARTICLE_NAMES)) + "|",
    ]
    for name, score in scores.items():
        cells = [f"{row.fbeta:.3f} ({row.precision:.2f}, {row.recall:.2f})" for row in score.particles.values()]
        lines.append(f"| {name} | {score.score:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--weights", type=click.Path(path_type=Path), default=SHIPPED_WEIGHTS, help="Folder of model folders.")
@click.option("--tomogram-type", default="denoised", show_default=True, help="Reconstruction to take.")
@click.option("--first", type=click.IntRange(1), help="Only so many runs of each folder.")
@own_statistics_option
def main(
    data_dirs: tuple[Path, ...], weights: Path, tomogram_type: str, first: int | None, own_statistics: str
) -> None:
    """Score every branch whose models there are, and the notebook's merge, on the labelled runs in DATA_DIR..."""
    from tqdm.auto import tqdm

    try:
        runs = [run for directory in data_dirs for run in find_runs(directory, tomogram_type=tomogram_type)[:first]]
        pickers = available_pickers(weights)
        truth, picks = {}, {}
        for number, run in enumerate(tqdm(runs, desc="picking", unit="tomogram")):
            if run.picks_directory is None:
                raise InputError(f"run {run.name} has no picks to score against")
            name = f"{number} {run.name}"  # folders may hold runs of the same name
            truth[name] = read_labels(run.picks_directory)
            picks[name] = pick_by_all(read_tomogram(run), pickers, PickSettings(own_statistics=own_statistics))
    except InputError as error:
        raise click.ClickException(str(error)) from None
    ways = list(picks[next(iter(picks))])
    scores = {way: evaluate({name: found[way] for name, found in picks.items()}, truth) for way in ways}
    click.echo(f"{len(runs)} tomograms; F-beta 4 (precision, recall) of each particle type\n\n{score_table(scores)}")


if __name__ == "__main__":
    main()
