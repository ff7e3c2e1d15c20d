"""Train a 3D U-Net on labelled tomograms, from nothing or from a model folder, and go on where it stopped."""

import functools
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.utils.data import Dataset

import kaggle_cryoet
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.folder import mend_folder, weights_digest
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.models.unet3d import HalfUNet
from kaggle_cryoet.picking.branches import UNET_FOLDER
from kaggle_cryoet.picking.candidates import LocaliseSettings
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.source import source_commit
from kaggle_cryoet.training.average import RunningAverage
from kaggle_cryoet.training.checkpoints import (
    DrawCurves,
    SaveCheckpoint,
    SaveModel,
    StopAtNonsense,
    csv_logger,
    read_checkpoint,
    save_of_checkpoint,
)
from kaggle_cryoet.training.crops import CropDataset, CropSettings
from kaggle_cryoet.training.data import DataSettings, load_split, split_sources
from kaggle_cryoet.training.decisions import absent_types
from kaggle_cryoet.training.faults import raise_as_here
from kaggle_cryoet.training.keep_within_time import KeepWithinTime
from kaggle_cryoet.training.loaders import loader_processes
from kaggle_cryoet.training.module import SCHEDULE, UNetModule, UNetTrainingSettings
from kaggle_cryoet.training.presets import network_settings, training_preset
from kaggle_cryoet.training.ranks import LeaveAtOnce
from kaggle_cryoet.training.seeds import check_seed
from kaggle_cryoet.training.stream import LeadStream, Stream, StreamedCrops
from kaggle_cryoet.training.time_limit import check_time_limit
from kaggle_cryoet.training.trainer import (
    CropLoaders,
    TrainingLength,
    devices_that_share,
    make_trainer,
    quiet,
    training_precision,
)
from kaggle_cryoet.training.unchanged import check_unused, picks_digest
from kaggle_cryoet.training.unet_start import check_begun, network_to_train, spectrum_to_train
from kaggle_cryoet.whole_file import sole_folder

logger = logging.getLogger(__name__)

__all__ = ["TrainingLength", "train_unet"]

VOLUMES_FOLDER = ".training-volumes"
"""In the output folder, for tomograms that memory has no room for, and only as long as a training lasts."""
STREAM_FOLDER = ".training-stream"
"""For tomograms that are simulated meanwhile, until a training is done."""


def train_unet(
    data_directories: Sequence[str | Path],
    output: str | Path,
    *,
    validation_directories: Sequence[str | Path] = (),
    hold_out: bool = True,
    preset: str = "half",
    start_from: str | Path | None = None,
    resume: bool = False,
    length: TrainingLength | None = None,
    time_limit_seconds: float | None = None,
    crops: CropSettings | None = None,
    data: DataSettings | None = None,
    settings: UNetTrainingSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Train, and return the model folder, `output/unet3d`.

    `output/checkpoints/last.ckpt` is written after each epoch, `output/log/metrics.csv` holds loss and scores.

    Parameters
    ----------
    data_directories
        Folders with labelled runs; `DIR@5` is drawn from five times as often.
    output
        Folder to write into.
    validation_directories
        Folders with labelled runs that are not trained on.
    hold_out
        Keep every eighth of the runs, at least one, for validation if no folders are given for it. If False all are
        trained on, and the thresholds of the model are left for the caller to find.
    preset
        Network and way of training: one of `TRAINING_PRESETS`.
    start_from
        Model folder whose weights to start with, of the same network.
    resume
        Go on from the last checkpoint in `output`; its steps are those of an unbroken training.
    length, crops, data, settings
        How long, on which crops of which tomograms, and how, if not as the preset says.
    time_limit_seconds
        Train for no more epochs than fit into this time, one at least, and shorten the schedule with them; each call
        counts anew.
    seed
        Of weights, crops and augmentation.
    device
        `auto`, `cpu` or `cuda`; of several GPUs each gets its share of every batch.
    progress
        Show a bar.

    Raises
    ------
    InputError
        If the data cannot be trained on, there is nothing to resume or to start from, what is resumed began with
        other tomograms, settings or weights, or the output holds a training or a model, or another process trains into
        it.
    """
    began = time.monotonic()
    if time_limit_seconds is not None:
        check_time_limit(time_limit_seconds)
    output = Path(output)
    length = length or TrainingLength()
    crops = crops or CropSettings()
    data = data or DataSettings()
    settings = settings or training_preset(preset).training
    checkpoint = output / "checkpoints" / "last.ckpt"
    if not resume:
        check_unused(output, checkpoint, [output / UNET_FOLDER])
    check_seed(seed)
    if settings.localise != LocaliseSettings(method=settings.localise.method):
        raise InputError(f"a model keeps the method by which its scores become points alone, got {settings.localise}")
    devices = devices_that_share(choose_devices(device), length.batch_size)
    if len(devices) > 1:  # each is a process, which would have a copy of what is in memory; of files there is one
        data = replace(data, memory_gb=0.0)
    built_from = network_settings(preset, settings)
    start = None if start_from is None else load_unet(start_from)
    network = network_to_train(preset, built_from, start, seed)
    stride: int = network.stride  # type: ignore[assignment]
    if any(edge % network.multiple for edge in crops.shape_zyx):  # type: ignore[operator]
        raise InputError(f"edges of crops must be multiples of {network.multiple}, got {crops.shape_zyx}")
    epochs_done, steps = 0, length.steps
    if resume:
        content = read_checkpoint(checkpoint, network, {"steps": length.steps, "seed": seed})
        epochs_done, steps = content["epoch"] + 1, content.get(SCHEDULE, length.steps)
    if settings.hold_statistics and start is None and not resume:
        raise InputError("hold_statistics holds those of a model to start from, and none is given")
    if settings.feature_mixing and not isinstance(network, HalfUNet):
        raise InputError(f"features can be mixed in the network of preset 'half', and not in that of {preset!r}")
    if data.least_equalised < 1 and not settings.equalise:
        raise InputError("tomograms can go no share of the way to a spectrum in a training that equalises none")
    mapped, streamed = output / VOLUMES_FOLDER, output / STREAM_FOLDER
    with sole_folder(output), _removed(mapped):
        sources, held_out = split_sources(data_directories, validation_directories, data, hold_out=hold_out)
        shutil.rmtree(mapped, ignore_errors=True)  # of a training that was killed
        mend_folder(output / UNET_FOLDER)
        known = load_unet(output / UNET_FOLDER) if resume else start
        if settings.equalise:
            built_from = replace(built_from, spectrum=spectrum_to_train(known, sources, data.adapt))
        training, validation = load_split(sources, held_out, data, spectrum=built_from.spectrum, folder=mapped)
        module = UNetModule(
            network,
            settings=settings,
            voxel_angstrom=training[0].voxel_angstrom,
            validation=validation,
            planned_steps=length.steps,
            steps=steps,
            seed=seed,
        )
        if known is not None:  # until there is a look at the score
            module.thresholds, module.calibration = known.thresholds, known.calibration
        absent = absent_types(volume.picks for volume in training)
        if absent and data.stream is None:
            logger.warning("no picks of %s in any tomogram: the network learns that there are none", ", ".join(absent))
        crops_of = functools.partial(
            CropDataset,
            length=length.crops_per_epoch,
            stride=stride,
            seed=seed,
            settings=crops,
            targets=settings.targets,
        )
        dataset: Dataset[tuple[Tensor, Tensor]] = crops_of(training)
        callbacks: list[Callback] = []
        stream = None
        if data.stream is not None:
            stream = Stream(
                data.stream,
                streamed,
                seed,
                built_from.spectrum,
                least_equalised=data.least_equalised,
                tomogram_types=data.tomogram_types,
            )
            dataset = StreamedCrops(training, stream, crops_of, length.crops_per_epoch)
            callbacks.append(LeadStream(stream, epochs_done))
        provenance = {
            "version": kaggle_cryoet.__version__,
            "commit": source_commit(),
            "seed": seed,
            "preset": preset,
            "started_from": None if start is None else dict(start.provenance),
            "started_with": None if start_from is None else weights_digest(Path(start_from)),
            "training_runs": [volume.name for volume in training],
            "training_picks": picks_digest(volume.picks for volume in training),
            "training_weights": [volume.weight for volume in training],
            "validation_runs": [volume.name for volume in validation],
            "length": asdict(length),
            "crops": asdict(crops),
            "data": asdict(data),
            "training": asdict(settings),
        }
        epochs_saved = 0
        if resume and known is not None:
            check_begun(known.provenance, provenance)
            provenance |= {name: known.provenance.get(name) for name in ("started_from", "started_with")}
            epochs_saved = int(known.provenance.get("epochs", 0))
        if epochs_done and epochs_done * length.crops_per_epoch >= steps * length.batch_size:
            logger.warning("%s: all %d epochs are done; there is nothing to resume", output, epochs_done)
            if known is not None and epochs_saved < epochs_done:  # killed between its last checkpoint and its model
                save_of_checkpoint(output / UNET_FOLDER, known, content, epochs_done)
            return output / UNET_FOLDER
        if stream is not None:
            stream.settle()
        averaging = RunningAverage(length.ema_decay)
        callbacks += [
            LeaveAtOnce(),
            StopAtNonsense(),
            *([] if time_limit_seconds is None else [KeepWithinTime(length, began + time_limit_seconds)]),
            SaveModel(output / UNET_FOLDER, averaging, built_from, provenance, length, saved=epochs_saved),
            averaging,
            DrawCurves(),
            SaveCheckpoint(checkpoint),
        ]
        try:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            with quiet():
                scheduled = replace(length, epochs=steps * length.batch_size // length.crops_per_epoch)
                trainer = make_trainer(
                    scheduled,
                    devices,
                    training_precision(devices, network, crops.shape_zyx[0]),
                    callbacks,
                    csv_logger(output, epochs_done),
                    progress=progress,
                )
                trainer.fit(
                    module,
                    datamodule=CropLoaders(dataset, length, loader_processes(devices), epochs_done),
                    ckpt_path=checkpoint if resume else None,
                    weights_only=False,
                )
            shutil.rmtree(streamed, ignore_errors=True)
        except (InputError, OSError, RuntimeError, ProcessRaisedException) as error:
            raise_as_here(error, output, smaller=", as of --set length.batch_size=2")
        except ProcessExitedException as error:
            raise InputError(
                f"a process of the training was ended from outside ({error}); was memory short?"
            ) from error
    return output / UNET_FOLDER


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Whatever happens, a folder is not there afterwards."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
