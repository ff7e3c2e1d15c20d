"""The command line: each verb calls the function of the same name that a user would import."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_cryoet import __version__
from kaggle_cryoet.cli_look import look
from kaggle_cryoet.cli_options import (
    adapt_options,
    device_option,
    flips_option,
    own_statistics_option,
    pick_settings,
    strict_option,
    tomogram_type_option,
)
from kaggle_cryoet.cli_report import confusion, curves, detections
from kaggle_cryoet.cli_simulation import beads, calibrate, simulate
from kaggle_cryoet.cli_training import train
from kaggle_cryoet.cli_yolo import slices
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.whole_file import write_json

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings

EXIT_BAD_USE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises where a command is missing, from its version 8.2 on."""

branch_option = click.option(
    "--branch",
    type=click.Choice(["hybrid", "unet", "yolo"]),
    default="unet",
    show_default=True,
    help="Networks that pick.",
)
run_option = click.option(
    "--run", "runs", multiple=True, metavar="NAME", help="Only this run, or those named so, as 'TS_*'; may be repeated."
)
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path), help="Model folder; the package's own if not given."
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
@click.option("--picks", type=click.Path(path_type=Path), help="Folder for copick JSON files with scores.")
@click.option(
    "--time-limit",
    type=float,
    metavar="SECONDS",
    help="Pick no longer than this, with fewer flips if need be; a report comes after it.",
)
@click.option("--continue", "go_on", is_flag=True, help="Keep what an interrupted prediction has finished.")
@run_option
@tomogram_type_option
@adapt_options
@flips_option
@own_statistics_option
@strict_option
def predict(
    tomogram_dir: Path,
    output: Path,
    branch: str,
    device: str,
    weights: Path | None,
    report: Path | None,
    picks: Path | None,
    time_limit: float | None,
    go_on: bool,
    runs: tuple[str, ...],
    tomogram_type: str,
    adapt: "AdaptSettings",
    flips: str,
    own_statistics: str,
    strict: bool,
) -> None:
    """Find the particles in TOMOGRAM_DIR and write a submission.

    TOMOGRAM_DIR is the competition's static folder, its parent, an ExperimentRuns folder, a dataset of the CryoET Data
    Portal, one run, one .zarr, .mrc or .rec, a folder of those, or a folder of folders with one each.
    """
    from kaggle_cryoet.jobs import run_prediction

    prediction = run_prediction(
        tomogram_dir,
        output=output,
        branch=branch,
        device=device,
        weights=weights,
        report=report,
        picks=picks,
        settings=pick_settings(flips, adapt, own_statistics=own_statistics, strict=strict),
        time_limit_seconds=time_limit,
        go_on=go_on,
        run_names=runs,
        tomogram_type=tomogram_type,
        progress=True,
        command=_command_line(),
    )
    if prediction.picks:
        click.echo(f"{len(prediction.table)} particles in {len(prediction.picks)} tomograms: {prediction.output}")
    if picks is not None:
        click.echo(f"copick JSON: {picks}")
    if report is not None:
        click.echo(f"report: {report / 'index.html'}")
    _exit_if_some_failed(prediction.failed)


@cli.command("dry-run")
@click.argument("train_dir", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("dry-run"), show_default=True)
@run_option
@branch_option
@device_option
@weights_option
@tomogram_type_option
@adapt_options
@flips_option
@own_statistics_option
@strict_option
def dry_run(
    train_dir: Path,
    output: Path,
    runs: tuple[str, ...],
    branch: str,
    device: str,
    weights: Path | None,
    tomogram_type: str,
    adapt: "AdaptSettings",
    flips: str,
    own_statistics: str,
    strict: bool,
) -> None:
    """Predict the labelled tomograms in TRAIN_DIR, score them, and draw what was found and missed."""
    from kaggle_cryoet.dry_run import dry_run as run_on_labelled

    prediction, score, page = run_on_labelled(
        train_dir,
        output=output,
        run_names=runs,
        branch=branch,
        device=device,
        weights=weights,
        settings=pick_settings(flips, adapt, own_statistics=own_statistics, strict=strict),
        tomogram_type=tomogram_type,
        progress=True,
        command=_command_line(),
    )
    click.echo(score.format_table())
    click.echo(f"submission: {output / 'submission.csv'}\nreport: {page}")
    _exit_if_some_failed(prediction.failed)


@cli.command()
@click.option("--submission", type=click.Path(path_type=Path), required=True, help="The csv to score.")
@click.option("--truth", type=click.Path(path_type=Path), required=True, help="Folder with labels, or a csv.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the score there as well.")
def evaluate(submission: Path, truth: Path, json_path: Path | None) -> None:
    """Score a submission as the competition does."""
    from kaggle_cryoet.jobs import evaluate as score_of

    score = score_of(submission, truth)
    if json_path is not None:
        write_json(json_path, score.to_json_dict())
    click.echo(score.format_table())


@cli.command()
@click.argument("submissions", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CSV...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The csv to write.")
def join(submissions: tuple[Path, ...], output: Path) -> None:
    """Join submissions of different tomograms, as jobs of a cluster leave them, into one."""
    from kaggle_cryoet.jobs import join as join_submissions

    table = join_submissions(submissions, output)
    click.echo(f"{len(table)} particles in {table['experiment'].nunique()} tomograms: {output}")


for verb in (look, confusion, detections, simulate, beads, calibrate, slices, train, curves):
    cli.add_command(verb)


@cli.command()
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--owner", default="", metavar="NAME", help="Your user name, as in kaggle.com/NAME, for the id.")
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


def _exit_if_some_failed(failed: dict[str, str]) -> None:
    """Name the runs that failed, and leave with the status that says so."""
    if failed:
        for run, reason in failed.items():
            click.echo(f"failed: {run}: {reason}", err=True)
        sys.exit(EXIT_SOME_FAILED)


def main() -> None:
    """Run the command line; what a user can mend costs one line and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        cli.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):  # the former is a RuntimeError, too
        click.echo("kaggle-cryoet: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except (InputError, click.ClickException) as error:
        if isinstance(error, NO_ARGUMENTS):
            click.echo(error.format_message(), err=True)  # which is the help
            sys.exit(EXIT_BAD_USE)
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"kaggle-cryoet: {' '.join(message.split())}", err=True)
        sys.exit(EXIT_BAD_USE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"kaggle-cryoet: {where}{error.strerror or error}", err=True)
        sys.exit(EXIT_BAD_USE)
    except (MemoryError, RuntimeError) as error:
        from kaggle_cryoet.picking.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        click.echo(f"kaggle-cryoet: memory ran out: {(str(error) or repr(error)).splitlines()[0]}", err=True)
        sys.exit(EXIT_BAD_USE)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "kaggle_cryoet"):
            raise
        said = f"{missing} is not installed; in a clone `pip install '.[train]'` installs all that any command needs"
        click.echo(f"kaggle-cryoet: {said}", err=True)
        sys.exit(EXIT_BAD_USE)
