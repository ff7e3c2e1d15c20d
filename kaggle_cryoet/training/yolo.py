"""Train a YOLO11 on z-slices of labelled tomograms, from nothing or from given weights, and go on where it stopped."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic

import kaggle_cryoet
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.folder import mend_folder
from kaggle_cryoet.models.store import load_yolo
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.branches import YOLO_FOLDER
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.source import source_commit
from kaggle_cryoet.training.faults import raise_as_here
from kaggle_cryoet.training.loaders import loader_processes
from kaggle_cryoet.training.seeds import check_seed
from kaggle_cryoet.training.slice_dataset import SliceSettings, check_slices, write_slices
from kaggle_cryoet.training.slice_folder import DATA_FILE, SliceFolder, read_slice_folder
from kaggle_cryoet.training.time_limit import check_time_limit
from kaggle_cryoet.training.unchanged import check_unchanged, check_unused
from kaggle_cryoet.training.yolo_recipes import PRESET_SEEDS, PRESETS, YoloRecipe, ultralytics_arguments
from kaggle_cryoet.training.yolo_record import KeepModel, show_progress
from kaggle_cryoet.training.yolo_start import check_checkpoint, resumed_start, starting_weights
from kaggle_cryoet.whole_file import sole_folder

RECORD_FOLDER = "training"
SLICES_FOLDER = "slices"
LAST_FOLDER = "last"


def train_yolo(
    data_directories: Sequence[str | Path],
    output: str | Path,
    *,
    validation_directories: Sequence[str | Path] = (),
    preset: str = "ours",
    size: str | None = None,
    start_from: str | Path | None = None,
    resume: bool = False,
    recipe: YoloRecipe | None = None,
    epochs: int | None = None,
    time_limit_seconds: float | None = None,
    slices: SliceSettings | None = None,
    adapt: AdaptSettings | None = None,
    seed: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Train, and return the model folder, `output/yolo11`.

    The model folder is written anew whenever the validation slices are answered better than ever before. Beside it,
    `output/last/yolo11` is the model of the last epoch, which on few validation runs may be the better one, and
    `output/training` holds `weights/last.pt`, written after each epoch, `results.csv` and ultralytics' plots.

    Parameters
    ----------
    data_directories
        Folders with labelled runs, whose slices are written to `output/slices`, or one folder of slices.
    output
        Folder to write into.
    validation_directories
        Folders with labelled runs that are not trained on; by default every eighth of the runs is kept for that.
    preset
        `ours` or `paper`.
    size
        `n`, `s`, `m`, `l` or `x`; by default that of `start_from`, or `n`.
    start_from
        Model folder, or a local `.pt` file of a YOLO11, whose weights to start with where their shapes fit.
    resume
        Go on from the last checkpoint in `output`, whose weights and size take the place of those given.
    recipe
        In place of that of the preset.
    epochs
        In place of those of the recipe.
    time_limit_seconds
        Fit as many epochs as possible into this time, one at least; each call counts anew.
    slices
        Which slices of the runs are taken.
    adapt
        What is known better than the tomograms of the runs say, where `slices` is not given.
    seed
        Of weights, images and augmentation; by default that of the preset.
    device
        `auto`, `cpu` or `cuda`.
    progress
        Show bars.

    Raises
    ------
    InputError
        If the data cannot be trained on, there is nothing to resume or to start from, what is resumed began with
        other slices or another recipe, or the output holds a training or a model, or another process trains into it.
    """
    begun = monotonic()
    output = Path(output)
    recipe, seed = _recipe(preset, recipe, epochs), PRESET_SEEDS[preset] if seed is None else seed
    check_seed(seed)
    if time_limit_seconds is not None:
        check_time_limit(time_limit_seconds)
    checkpoint = output / RECORD_FOLDER / "weights" / "last.pt"
    last = output / LAST_FOLDER / YOLO_FOLDER
    if resume:
        check_checkpoint(checkpoint, {"seed": seed})
    else:
        check_unused(output, checkpoint, [output / YOLO_FOLDER, last])
    where = choose_devices(device)[0]
    with sole_folder(output):
        for model in (output / YOLO_FOLDER, last):
            mend_folder(model)
        start = resumed_start(last) if resume else starting_weights(start_from, size)
        folder = _slice_folder(
            data_directories, validation_directories, output, recipe, slices, adapt, resume=resume, progress=progress
        )
        spectrum = folder.image.spectrum if recipe.equalise or folder.equalised else ()
        settings = replace(folder.image, size=start.size, spectrum=spectrum)
        arguments = ultralytics_arguments(recipe, image_pixels=_image_pixels(recipe, folder), seed=seed) | {
            "model": str(checkpoint) if resume else f"yolo11{start.size}.yaml",
            "resume": str(checkpoint) if resume else False,
            "data": str(folder.data_yaml.absolute()),
            "device": "cpu" if where.type == "cpu" else str(where.index or 0),
            "workers": loader_processes([where]),
            "project": str(output.absolute()),
            "name": RECORD_FOLDER,
            "save_dir": str((output / RECORD_FOLDER).absolute()),
        }
        provenance = {
            "version": kaggle_cryoet.__version__,
            "commit": source_commit(),
            "seed": seed,
            "started_from": start.origin,
            "training_runs": folder.runs["train"],
            "validation_runs": folder.runs["val"],
            "slices": folder.digest,
            "image_pixels": arguments["imgsz"],
            "recipe": asdict(recipe),
        }
        minutes = 0.0
        if resume:  # the batch that memory has room for is ultralytics' matter: the recipe is compared
            known = load_yolo(last)
            minutes = known.provenance["minutes"]
            compared = ("training_runs", "validation_runs", "slices", "recipe")
            now = {name: provenance[name] for name in compared if name in known.provenance}
            before = {**known.provenance, "images": asdict(known.settings)}
            check_unchanged(before, {**now, "images": asdict(settings)}, what="a training")
        from kaggle_cryoet.training.local_ultralytics import local_ultralytics
        from kaggle_cryoet.training.yolo_trainer import SliceTrainer

        try:
            with local_ultralytics():
                trainer = SliceTrainer(
                    arguments,
                    recipe=recipe,
                    settings=settings,
                    weights=start.weights,
                    time_limit_seconds=None
                    if time_limit_seconds is None
                    else time_limit_seconds - (monotonic() - begun),
                )
                KeepModel(output / YOLO_FOLDER, last, settings, provenance, minutes=minutes).attach(trainer)
                if progress:
                    show_progress(trainer)
                trainer.train()
        except (InputError, OSError, RuntimeError) as error:
            if "NaN persisted" in str(error):
                raise InputError(f"{error}; expected a lower learning rate; what was saved before is whole") from error
            raise_as_here(error, output, smaller=", and so does a smaller network, as of --size n")
    return output / YOLO_FOLDER


def _recipe(preset: str, recipe: YoloRecipe | None, epochs: int | None) -> YoloRecipe:
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    recipe = recipe or PRESETS[preset]
    return recipe if epochs is None else replace(recipe, epochs=epochs)


def _slice_folder(
    data: Sequence[str | Path],
    validation: Sequence[str | Path],
    output: Path,
    recipe: YoloRecipe,
    slices: SliceSettings | None,
    adapt: AdaptSettings | None,
    *,
    resume: bool,
    progress: bool,
) -> SliceFolder:
    """The folder of slices that is given, or one that is, or was, made from the runs that are given."""
    given = [Path(directory) for directory in data if (Path(directory) / DATA_FILE).is_file()]
    if not given:
        slices = slices or SliceSettings(tile_pixels=recipe.tile_pixels, adapt=adapt or AdaptSettings())
        folder = output / SLICES_FOLDER
        if resume:
            check_slices(data, folder, validation_directories=validation, settings=slices)
        else:
            write_slices(data, folder, validation_directories=validation, settings=slices, progress=progress)
        return read_slice_folder(folder)
    if len(data) > 1 or validation:
        raise InputError(
            f"{given[0]}: is a folder of slices, which holds its validation too; expected nothing beside it"
        )
    if adapt not in (None, AdaptSettings()):
        raise InputError(f"{given[0]}: is a folder of slices; how tomograms are read, `slices` had to be told")
    return read_slice_folder(given[0])


def _image_pixels(recipe: YoloRecipe, folder: SliceFolder) -> int:
    """Edge of a training image."""
    return recipe.image_pixels or -(-folder.longest_edge_pixels // 32) * 32
