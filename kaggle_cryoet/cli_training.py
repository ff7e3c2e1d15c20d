"""The verbs of the command line that train networks."""

from pathlib import Path

import click

from kaggle_cryoet.cli_options import device_option, flips_option, pick_settings


@click.group()
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

    _, score = refit_thresholds(weights, data_dirs, settings=pick_settings(flips).segment, device=device)
    click.echo(f"on the tomograms fitted on:\n{score.format_table()}\nmodel: {weights}")
