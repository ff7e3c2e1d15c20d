"""The verbs of the command line that draw: confusions of types, curves of a training, detections in slices."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_cryoet.cli_options import adapt_options, device_option, tomogram_type_option

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings


@click.command()
@click.option("--submission", type=click.Path(path_type=Path), required=True, help="The csv to look at.")
@click.option("--truth", type=click.Path(path_type=Path), required=True, help="Folder with labels, or a csv.")
@click.option("--output", type=click.Path(path_type=Path), help="Picture (.png) or numbers (.json) to write.")
def confusion(submission: Path, truth: Path, output: Path | None) -> None:
    """Show which particle types a submission takes for which, with what it misses and what is not there."""
    from kaggle_cryoet.report.confusion import compare, format_confusion, write_confusion
    from kaggle_cryoet.report.style import check_picture

    if output is not None:
        check_picture(output, others=(".json",))
    matrix = compare(submission, truth)
    click.echo(format_confusion(matrix))
    if output is not None:
        write_confusion(matrix, output)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("curves.png"), show_default=True, help="Picture to write."
)
def curves(results: Path, output: Path) -> None:
    """Draw precision, recall, mAP50, mAP50-95 and losses of RESULTS, a model folder of a YOLO11 or its results.csv."""
    from kaggle_cryoet.report.detector_curves import save_detector_curves

    inside = results / "training" / "results.csv"
    save_detector_curves(inside if inside.is_file() else results, output)


@click.command()
@click.argument("tomogram_dir", type=click.Path(path_type=Path))
@click.option("--run", "run_name", metavar="NAME", help="Run to draw; the first if not given.")
@click.option("--weights", type=click.Path(path_type=Path), help="Folder of a YOLO11; the package's own if not given.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the pictures.")
@click.option("--count", type=click.IntRange(1), default=4, show_default=True, help="Slices.")
@click.option("--confidence", type=float, default=0.25, show_default=True, help="Detections must be above it.")
@tomogram_type_option
@adapt_options
@device_option
def detections(
    tomogram_dir: Path,
    run_name: str | None,
    weights: Path | None,
    output: Path,
    count: int,
    confidence: float,
    tomogram_type: str,
    adapt: "AdaptSettings",
    device: str,
) -> None:
    """Draw what YOLO11 finds in single slices of a tomogram in TOMOGRAM_DIR, against its picks if it has any."""
    from kaggle_cryoet.detections import draw_detections_in

    pictures = draw_detections_in(
        tomogram_dir,
        output=output,
        run_name=run_name,
        weights=weights,
        count=count,
        least_confidence=confidence,
        tomogram_type=tomogram_type,
        adapt=adapt,
        device=device,
    )
    for path, counted in pictures.items():
        click.echo(f"{path}\n{counted.format_table()}")
