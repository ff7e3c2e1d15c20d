"""The command line: each verb calls the function of the same name that a user would import."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_cryoet import __version__
from kaggle_cryoet.cli_simulation import beads, calibrate, simulate
from kaggle_cryoet.errors import InputError

if TYPE_CHECKING:
    from kaggle_cryoet.picking.pipeline import PickSettings

EXIT_BAD_USE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130

device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
branch_option = click.option(
    "--branch",
    type=click.Choice(["hybrid", "unet", "yolo"]),
    default="unet",
    show_default=True,
    help="Networks that pick.",
)
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path), help="Model folder; the package's own if not given."
)
flips_option = click.option(
    "--flips",
    type=click.Choice(["1", "2", "4", "8"]),
    default="1",
    show_default=True,
    help="Test-time augmentation: average over so many flips.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kaggle-cryoet")
def cli() -> None:
    """Find protein complexes in cryo-electron tomograms."""


@cli.command()
@click.argument("tomogram_dir", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("submission.csv"), show_default=True)
@branch_option
@device_option
@weights_option
@click.option("--report", type=click.Path(path_type=Path), help="Folder for an HTML page with pictures.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Be done in this time, with fewer flips if need be.")
@click.option("--continue", "go_on", is_flag=True, help="Keep what an interrupted prediction has finished.")
@click.option("--run", "runs", multiple=True, metavar="NAME", help="Only this run; may be repeated.")
@click.option("--tomogram-type", default="denoised", show_default=True, help="Reconstruction to take.")
@flips_option
def predict(
    tomogram_dir: Path,
    output: Path,
    branch: str,
    device: str,
    weights: Path | None,
    report: Path | None,
    time_limit: float | None,
    go_on: bool,
    runs: tuple[str, ...],
    tomogram_type: str,
    flips: str,
) -> None:
    """Find the particles in TOMOGRAM_DIR and write a submission.

    TOMOGRAM_DIR is the competition's static folder, its parent, an ExperimentRuns folder, one run, one .zarr or
    .mrc, or a folder of those.
    """
    from kaggle_cryoet.jobs import run_prediction

    prediction = run_prediction(
        tomogram_dir,
        output=output,
        branch=branch,
        device=device,
        weights=weights,
        report=report,
        settings=_pick_settings(flips),
        time_limit_seconds=time_limit,
        go_on=go_on,
        run_names=runs,
        tomogram_type=tomogram_type,
        progress=True,
        command=_command_line(),
    )
    click.echo(f"{len(prediction.table)} particles in {len(prediction.picks)} tomograms: {output}")
    if report is not None:
        click.echo(f"report: {report / 'index.html'}")
    _exit_if_some_failed(prediction.failed)


@cli.command("dry-run")
@click.argument("train_dir", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("dry-run"), show_default=True)
@click.option("--run", "runs", multiple=True, metavar="NAME", help="Only this run; may be repeated.")
@branch_option
@device_option
@weights_option
@flips_option
def dry_run(
    train_dir: Path,
    output: Path,
    runs: tuple[str, ...],
    branch: str,
    device: str,
    weights: Path | None,
    flips: str,
) -> None:
    """Predict the labelled tomograms in TRAIN_DIR, score them, and draw what was found and missed."""
    from kaggle_cryoet import jobs

    prediction, score, page = jobs.dry_run(
        train_dir,
        output=output,
        run_names=runs,
        branch=branch,
        device=device,
        weights=weights,
        settings=_pick_settings(flips),
        progress=True,
        command=_command_line(),
    )
    click.echo(score.format_table())
    click.echo(f"submission: {output / 'submission.csv'}\nreport: {page}")
    _exit_if_some_failed(prediction.failed)


@cli.command()
@click.option("--submission", type=click.Path(path_type=Path), required=True, help="The csv to score.")
@click.option("--truth", type=click.Path(path_type=Path), required=True, help="Folder with copick JSON, or a csv.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the score there as well.")
def evaluate(submission: Path, truth: Path, json_path: Path | None) -> None:
    """Score a submission as the competition does."""
    from kaggle_cryoet import jobs

    score = jobs.evaluate(submission, truth)
    if json_path is not None:
        try:
            json_path.write_text(json.dumps(score.to_json_dict(), indent=1) + "\n", encoding="utf8")
        except OSError as error:
            raise InputError(f"{json_path}: cannot be written ({error.strerror})") from None
    click.echo(score.format_table())


for making in (simulate, beads, calibrate):
    cli.add_command(making)


@cli.group()
def train() -> None:
    """Train a network on labelled tomograms."""


@train.command("unet")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model, checkpoints and log.")
@click.option("--preset", default="half", show_default=True, help="Network: half or host.")
@click.option("--from", "start_from", type=click.Path(path_type=Path), help="Model folder whose weights to start with.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --output.")
@click.option("--validation", multiple=True, type=click.Path(path_type=Path), help="Labelled runs to look at only.")
@click.option("--epochs", type=int, default=20, show_default=True, help="Portions of 800 crops.")
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
def train_unet(
    data_dirs: tuple[Path, ...],
    output: Path,
    preset: str,
    start_from: Path | None,
    resume: bool,
    validation: tuple[Path, ...],
    epochs: int,
    seed: int,
    device: str,
) -> None:
    """Train the 3D U-Net on the labelled runs in DATA_DIR..."""
    from kaggle_cryoet.training.unet import TrainingLength
    from kaggle_cryoet.training.unet import train_unet as run_training

    folder = run_training(
        data_dirs,
        output,
        validation_directories=validation,
        preset=preset,
        start_from=start_from,
        resume=resume,
        length=TrainingLength(epochs=epochs),
        seed=seed,
        device=device,
    )
    click.echo(f"model: {folder}")


@train.command("finetune")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model and score.")
@click.option("--from", "start_from", type=click.Path(path_type=Path), help="Model folder whose weights to start with.")
@click.option("--time-limit", type=float, required=True, metavar="SECONDS", help="Be done in this time.")
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
def train_finetune(
    data_dirs: tuple[Path, ...], output: Path, start_from: Path | None, time_limit: float, seed: int, device: str
) -> None:
    """Fine-tune on the few labelled runs in DATA_DIR..., and score it by leaving out one at a time."""
    from kaggle_cryoet.training.finetune import fine_tune

    result = fine_tune(
        data_dirs, output, time_limit_seconds=time_limit, start_from=start_from, seed=seed, device=device
    )
    if result.score is not None:
        click.echo(f"left out, one at a time: {', '.join(result.left_out)}\n{result.score.format_table()}")
    click.echo(f"model: {result.model}")


@train.command("thresholds")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--weights", type=click.Path(path_type=Path), required=True, help="Model folder to change.")
@flips_option
@device_option
def train_thresholds(data_dirs: tuple[Path, ...], weights: Path, flips: str, device: str) -> None:
    """Fit the thresholds of a model anew, on the labelled runs in DATA_DIR..."""
    from kaggle_cryoet.training.refit import refit_thresholds

    _, score = refit_thresholds(weights, data_dirs, settings=_pick_settings(flips).segment, device=device)
    click.echo(f"on the tomograms fitted on:\n{score.format_table()}\nmodel: {weights}")


@cli.command()
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--owner", default="", metavar="NAME", help="Your name on Kaggle, which becomes part of the id.")
@click.option("--weights", type=click.Path(path_type=Path), help="Model folder to ship in place of the package's own.")
@click.option("--wheels", type=click.Path(path_type=Path), help="Folder with the wheels and their lock.")
def bundle(output_dir: Path, owner: str, weights: Path | None, wheels: Path | None) -> None:
    """Make the Kaggle dataset: the package with its weights, other wheels, an installer."""
    from kaggle_cryoet.kaggle.bundle import make_bundle

    made = make_bundle(output_dir, wheels=wheels, weights=weights, owner=owner)
    for name, size in made.sizes.items():
        click.echo(f"{size:>12,}  {name}")
    click.echo(f"{sum(made.sizes.values()):>12,}  bytes in all: {made.directory}")
    if not owner:
        click.echo("write your name on Kaggle into dataset-metadata.json, or give it as --owner")
    click.echo(f"next: kaggle datasets create -p {made.directory}")


def _command_line() -> str:
    """What the user typed."""
    return shlex.join(["kaggle-cryoet", *sys.argv[1:]])


def _pick_settings(flips: str) -> "PickSettings":
    from kaggle_cryoet.picking.pipeline import PickSettings
    from kaggle_cryoet.picking.segment import SegmentSettings

    return PickSettings(segment=SegmentSettings(flips=int(flips)))


def _exit_if_some_failed(failed: dict[str, str]) -> None:
    """Name the runs that failed, and leave with the status that says so."""
    if failed:
        for run, reason in failed.items():
            click.echo(f"failed: {run}: {reason}", err=True)
        sys.exit(EXIT_SOME_FAILED)


def main() -> None:
    """Run the command line; a user's mistake costs one line and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        cli.main(standalone_mode=False)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"kaggle-cryoet: {' '.join(message.split())}", err=True)
        sys.exit(EXIT_BAD_USE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("kaggle-cryoet: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
