"""The verb of the command line that looks at the image of a single slice."""

from pathlib import Path

import click

from kaggle_cryoet.cli_options import particles_option
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--picks", "picks_dir", type=click.Path(path_type=Path), help="Picks of its tomogram (a folder).")
@click.option(
    "--z", type=click.IntRange(0), help="Which slice of its tomogram it is, the first being 0; needed with --picks."
)
@click.option("--voxel", default=CZII_VOXEL_ANGSTROM, show_default=True, metavar="ANGSTROM", help="Edge of a pixel.")
@particles_option
@click.option("--confidence", default=0.25, show_default=True, help="Detections must be above it.")
@click.option("--weights", type=click.Path(path_type=Path), help="Folder of a YOLO11; the package's own if not given.")
@click.option("--output", type=click.Path(path_type=Path), help="Picture to write; IMAGE-look.png here if not given.")
def look(
    image: Path,
    picks_dir: Path | None,
    z: int | None,
    voxel: float,
    particles: str,
    confidence: float,
    weights: Path | None,
    output: Path | None,
) -> None:
    """Detect particles in IMAGE, a single slice (png, tif, jpg), count them against picks, and draw them."""
    from kaggle_cryoet.look import LookSettings, look_at_image

    if (picks_dir is None) != (z is None):
        raise InputError("picks and the index of the slice belong together: give both --picks and --z, or neither")
    output = Path(f"{image.stem}-look.png") if output is None else output
    settings = LookSettings(voxel_angstrom=voxel, tone=particles, least_confidence=confidence)
    count = look_at_image(image, output=output, picks_directory=picks_dir, z=z or 0, weights=weights, settings=settings)
    click.echo(f"{count.format_table()}\npicture: {output}")
