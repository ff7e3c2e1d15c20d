"""The verbs of the command line that write slices and train a detector on them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_cryoet.cli_options import adapt_options, device_option

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings

validation_option = click.option(
    "--validation", multiple=True, type=click.Path(path_type=Path), help="Labelled runs to look at only."
)
data_argument = click.argument(
    "data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR..."
)


@click.command()
@data_argument
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for images, boxes, data.yaml.")
@validation_option
@click.option(
    "--tomogram-type",
    "tomogram_types",
    multiple=True,
    default=("denoised",),
    show_default=True,
    metavar="NAME[@SHARE]",
    help="Reconstruction; may be repeated, those after the first with the share of the runs to take it of.",
)
@adapt_options
@click.option("--equalise", is_flag=True, help="Bring tomograms to one spectrum first, as `predict` shows them.")
@click.option("--every", type=int, default=4, show_default=True, help="Take every n-th slice.")
@click.option("--neighbour", type=int, default=2, show_default=True, metavar="VOXELS", help="0: one slice, thrice.")
@click.option(
    "--plain-share", type=float, default=0.2, show_default=True, help="Slices written without neighbours too."
)
@click.option("--tile", type=int, default=320, show_default=True, metavar="PIXELS", help="Longest edge of an image.")
@click.option("--seed", type=int, default=0, show_default=True)
def slices(
    data_dirs: tuple[Path, ...],
    output: Path,
    validation: tuple[Path, ...],
    tomogram_types: tuple[str, ...],
    adapt: "AdaptSettings",
    equalise: bool,
    every: int,
    neighbour: int,
    plain_share: float,
    tile: int,
    seed: int,
) -> None:
    """Write z-slices of the labelled runs in DATA_DIR... and boxes of their particles in YOLO's form."""
    from kaggle_cryoet.models.yolo11 import YoloSettings
    from kaggle_cryoet.training.slice_dataset import SliceSettings, write_slices

    settings = SliceSettings(
        image=YoloSettings(neighbour_voxels=neighbour),
        tomogram_types=tomogram_types,
        adapt=adapt,
        equalise=equalise,
        every=every,
        plain_share=plain_share,
        tile_pixels=tile,
        seed=seed,
    )
    path = write_slices(data_dirs, output, validation_directories=validation, settings=settings, progress=True)
    click.echo(f"slices: {path}")


@click.command("yolo")
@data_argument
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model, checkpoints and log.")
@click.option("--preset", default="ours", show_default=True, help="Recipe: ours or paper.")
@click.option("--size", help="Network: n, s, m, l or x; that of --from, or n.")
@click.option("--from", "start_from", type=click.Path(path_type=Path), help="Model folder or .pt file to start with.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --output.")
@validation_option
@click.option("--epochs", type=int, help="Portions of training; those of the preset if not given.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Fit the epochs into this time, one at least.")
@adapt_options
@click.option("--seed", type=int, help="That of the preset if not given.")
@device_option
def train_yolo(
    data_dirs: tuple[Path, ...],
    output: Path,
    preset: str,
    size: str | None,
    start_from: Path | None,
    resume: bool,
    validation: tuple[Path, ...],
    epochs: int | None,
    time_limit: float | None,
    adapt: "AdaptSettings",
    seed: int | None,
    device: str,
) -> None:
    """Train a YOLO11 on the slices of the labelled runs in DATA_DIR..., or on a folder of slices."""
    # before torch is loaded: threads that spin while they wait make training several times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from kaggle_cryoet.training.yolo import train_yolo as run_training

    folder = run_training(
        data_dirs,
        output,
        validation_directories=validation,
        preset=preset,
        size=size,
        start_from=start_from,
        resume=resume,
        epochs=epochs,
        time_limit_seconds=time_limit,
        adapt=adapt,
        seed=seed,
        device=device,
    )
    click.echo(f"model: {folder}")
