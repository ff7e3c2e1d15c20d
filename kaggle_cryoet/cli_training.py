"""The verbs of the command line that train networks."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kaggle_cryoet.cli_options import adapt_options, device_option, flips_option, pick_settings, tomogram_type_option
from kaggle_cryoet.cli_yolo import train_yolo

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings

preset_option = click.option(
    "--preset", default="half", show_default=True, help="Network and way of training: half, paper or host."
)


SHIPPED, NOTHING = "shipped", "nothing"


def _model_to_start_from(text: str | None, preset: str, *, by_default: str) -> Path | None:
    """Model folder of `--from`, which may be one of two words as well; the package's own is of the preset `half`."""
    from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, UNET_FOLDER

    text = text or (by_default if preset == "half" else NOTHING)
    if text in (SHIPPED, NOTHING):
        return SHIPPED_WEIGHTS / UNET_FOLDER if text == SHIPPED else None
    return Path(text)


@click.group()
def train() -> None:
    """Train a network on labelled tomograms."""


train.add_command(train_yolo)


@train.command("unet")
@click.argument("data_dirs", nargs=-1, required=True, metavar="DATA_DIR[@WEIGHT]...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model, checkpoints and log.")
@preset_option
@click.option("--from", "start_from", metavar="MODEL", help="Model folder whose weights to start with, or 'shipped'.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --output.")
@click.option("--validation", multiple=True, type=click.Path(path_type=Path), help="Labelled runs to look at only.")
@click.option("--fold", metavar="NAME", help="Run of DATA_DIR... to leave out and to look at.")
@click.option(
    "--tomogram-type",
    "tomogram_types",
    multiple=True,
    default=("denoised",),
    metavar="NAME[@SHARE]",
    show_default=True,
    help="Reconstruction; those given after the first are trained on beside it.",
)
@adapt_options
@click.option("--memory-gb", type=float, default=8.0, show_default=True, help="Tomograms beyond this stay on disk.")
@click.option("--hard-negatives", type=click.Path(path_type=Path), metavar="CSV", help="Submission for DATA_DIR...")
@click.option("--stream", type=int, nargs=3, metavar="Z Y X", help="Simulate tomograms of this shape meanwhile.")
@click.option("--epochs", type=int, default=20, show_default=True, help="Portions of 800 crops.")
@click.option(
    "--time-limit",
    type=float,
    metavar="SECONDS",
    help="Train for no more epochs than fit into this time, one at least.",
)
@click.option("--keep", type=int, default=0, show_default=True, help="Keep so many of the latest models apart.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other setting: training.loss.name=focal."
)
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
def train_unet(
    data_dirs: tuple[str, ...],
    output: Path,
    preset: str,
    start_from: str | None,
    resume: bool,
    validation: tuple[Path, ...],
    fold: str | None,
    tomogram_types: tuple[str, ...],
    adapt: "AdaptSettings",
    memory_gb: float,
    hard_negatives: Path | None,
    stream: tuple[int, int, int] | None,
    epochs: int,
    time_limit: float | None,
    keep: int,
    changes: tuple[str, ...],
    seed: int,
    device: str,
) -> None:
    """Train the 3D U-Net on the labelled runs in DATA_DIR..., drawing WEIGHT times as often from some."""
    from kaggle_cryoet.training.data import DataSettings
    from kaggle_cryoet.training.overrides import override
    from kaggle_cryoet.training.presets import Recipe, training_preset
    from kaggle_cryoet.training.stream import StreamSettings
    from kaggle_cryoet.training.trainer import TrainingLength
    from kaggle_cryoet.training.unet import train_unet as run_training

    recipe = Recipe(
        training=training_preset(preset).training,
        length=TrainingLength(epochs=epochs, keep=keep),
        data=DataSettings(
            tomogram_types=tomogram_types,
            adapt=adapt,
            memory_gb=memory_gb,
            fold=fold,
            hard_negatives=None if hard_negatives is None else str(hard_negatives),
            stream=None if stream is None else StreamSettings(shape_zyx=stream),
        ),
    )
    recipe = override(recipe, changes)
    folder = run_training(
        data_dirs,
        output,
        validation_directories=validation,
        preset=preset,
        start_from=_model_to_start_from(start_from, preset, by_default=NOTHING),
        resume=resume,
        length=recipe.length,
        time_limit_seconds=time_limit,
        crops=recipe.crops,
        data=recipe.data,
        settings=recipe.training,
        seed=seed,
        device=device,
    )
    click.echo(f"model: {folder}")


@train.command("denoiser")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for its weights.")
@click.option("--steps", type=int, default=600, show_default=True)
@click.option("--specimens", type=int, default=96, show_default=True, help="Simulated recordings.")
@click.option("--seed", type=int, default=0, show_default=True)
def train_denoiser(output: Path, steps: int, specimens: int, seed: int) -> None:
    """Train the simulator's denoiser on recordings that it simulates itself."""
    from kaggle_cryoet.training.denoiser import DenoiserTraining
    from kaggle_cryoet.training.denoiser import train_denoiser as run_training

    unexplained = run_training(output, settings=DenoiserTraining(steps=steps, specimens=specimens), seed=seed)
    click.echo(f"{unexplained:.3f} of the signal is unexplained\nweights: {output / 'weights.safetensors'}")


@train.command("average")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Model folder to write.")
def train_average(models: tuple[Path, ...], output: Path) -> None:
    """Average the weights of several models of one training; fit its thresholds anew afterwards."""
    from kaggle_cryoet.training.average import average_models

    click.echo(f"model: {average_models(models, output)}")


@train.command("finetune")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model and score.")
@preset_option
@click.option(
    "--from",
    "start_from",
    metavar="MODEL",
    help="Model folder whose weights to start with, or 'shipped' or 'nothing'; shipped for the preset half.",
)
@click.option("--time-limit", type=float, required=True, metavar="SECONDS", help="Be done in this time.")
@tomogram_type_option
@adapt_options
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
def train_finetune(
    data_dirs: tuple[Path, ...],
    output: Path,
    preset: str,
    start_from: str | None,
    time_limit: float,
    tomogram_type: str,
    adapt: "AdaptSettings",
    seed: int,
    device: str,
) -> None:
    """Fine-tune on the few labelled runs in DATA_DIR..., and score it by leaving out one at a time."""
    from kaggle_cryoet.training.finetune import fine_tune

    start = _model_to_start_from(start_from, preset, by_default=SHIPPED)
    click.echo(f"starts with {'fresh weights' if start is None else f'the weights in {start}'}")
    result = fine_tune(
        data_dirs,
        output,
        time_limit_seconds=time_limit,
        start_from=start,
        preset=preset,
        tomogram_type=tomogram_type,
        adapt=adapt,
        seed=seed,
        device=device,
    )
    if result.score is not None:
        click.echo(f"left out, one at a time: {', '.join(result.left_out)}\n{result.score.format_table()}")
    click.echo(f"model: {result.model}")


@train.command("thresholds")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--weights", type=click.Path(path_type=Path), required=True, help="Model folder to change.")
@tomogram_type_option
@adapt_options
@flips_option
@device_option
def train_thresholds(
    data_dirs: tuple[Path, ...],
    weights: Path,
    tomogram_type: str,
    adapt: "AdaptSettings",
    flips: str,
    device: str,
) -> None:
    """Fit the thresholds and the calibration of a model anew, on the labelled runs in DATA_DIR..."""
    from kaggle_cryoet.training.left_out import how_left_out
    from kaggle_cryoet.training.refit import refit_thresholds

    settings = pick_settings(flips, adapt)
    fit = refit_thresholds(
        weights, data_dirs, tomogram_type=tomogram_type, settings=settings, device=device, progress=True
    )
    click.echo(f"by thresholds, on the tomograms fitted on:\n{fit.score.format_table()}")
    click.echo(f"{how_left_out(fit.runs)}:\n{fit.left_out_score.format_table()}\nmodel: {weights}")


@train.command("hybrid")
@click.argument("data_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA_DIR...")
@click.option("--weights", type=click.Path(path_type=Path), required=True, help="Folder with unet3d and yolo11.")
@click.option("--output", type=click.Path(path_type=Path), help="Model folder; hybrid in --weights if not given.")
@tomogram_type_option
@adapt_options
@flips_option
@device_option
def train_hybrid(
    data_dirs: tuple[Path, ...],
    weights: Path,
    output: Path | None,
    tomogram_type: str,
    adapt: "AdaptSettings",
    flips: str,
    device: str,
) -> None:
    """Fit the hybrid of both networks, on labelled runs in DATA_DIR... that neither was trained on."""
    from kaggle_cryoet.training.hybrid import fit_hybrid_folder
    from kaggle_cryoet.training.left_out import how_left_out

    settings = pick_settings(flips, adapt)
    fit = fit_hybrid_folder(
        data_dirs, weights, output, tomogram_type=tomogram_type, settings=settings, device=device, progress=True
    )
    for name, score in fit.scores.items():
        click.echo(f"{name}, {how_left_out(len(fit.model.provenance['runs']))}:\n{score.format_table()}")
    click.echo(f"model: {output or weights / 'hybrid'}")
