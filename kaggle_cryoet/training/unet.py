"""Train a 3D U-Net on labelled tomograms, from nothing or from a model folder, and go on where it stopped."""

import logging
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import kaggle_cryoet
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, build_unet
from kaggle_cryoet.picking.devices import choose_devices
from kaggle_cryoet.training.checkpoints import SaveCheckpoint, SaveModel, csv_logger, read_checkpoint
from kaggle_cryoet.training.crops import (
    CropDataset,
    CropSettings,
    EpochSampler,
    LabelledVolume,
    find_labelled_runs,
    load_labelled_volume,
)
from kaggle_cryoet.training.module import UNetModule, UNetTrainingSettings

logger = logging.getLogger(__name__)

MODEL_FOLDER = "unet3d"


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """How long, in what portions."""

    epochs: int = 20
    """An epoch is a fixed number of crops, no pass over the data; a checkpoint is written after each."""
    crops_per_epoch: int = 800
    batch_size: int = 4
    validate_every: int = 2
    """Epochs from one look at the validation score to the next; there is one after the last epoch in any case."""
    ema_decay: float = 0.998
    """Decay per step of the exponential moving average of the weights; the average is what is kept."""

    def __post_init__(self) -> None:
        """Check that every number makes sense."""
        if min(self.epochs, self.crops_per_epoch, self.batch_size, self.validate_every) < 1:
            raise InputError(f"epochs, crops, batch size and validation interval must be 1 or more, got {self}")
        if self.crops_per_epoch % self.batch_size:
            raise InputError(f"crops per epoch must be a multiple of the batch size, got {self}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"the decay of the average must be 0 or more and less than 1, got {self.ema_decay}")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.crops_per_epoch // self.batch_size


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
    crops: CropSettings | None = None,
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
        Folders with labelled runs.
    output
        Folder to write into.
    validation_directories
        Folders with labelled runs that are not trained on.
    hold_out
        Keep one in eight of the runs, at least one, for validation if no folders are given for it. If False all are
        trained on, and the thresholds of the model are left for the caller to find.
    preset
        Network: `half` or `host`.
    start_from
        Model folder whose weights to start with, of the same network.
    resume
        Go on from the last checkpoint in `output`; its steps are those of an unbroken training.
    length, crops, settings
        How long, on which crops, how.
    seed
        Of weights, crops and augmentation.
    device
        `auto`, `cpu` or `cuda`.
    progress
        Show a bar.

    Raises
    ------
    InputError
        If the data cannot be trained on, or there is nothing to resume or to start from.
    """
    output = Path(output)
    length = length or TrainingLength()
    crops = crops or CropSettings()
    settings = settings or UNetTrainingSettings()
    checkpoint = output / "checkpoints" / "last.ckpt"
    if not resume and checkpoint.exists():
        raise InputError(f"{output} holds a training already; resume it or choose another folder")
    if seed < 0:
        raise InputError(f"the seed must not be negative, got {seed}")
    where = choose_devices(device)[0]
    network = _network(preset, start_from, seed)
    stride: int = network.stride  # type: ignore[assignment]
    if any(edge % network.multiple for edge in crops.shape_zyx):  # type: ignore[operator]
        raise InputError(f"edges of crops must be multiples of {network.multiple}, got {crops.shape_zyx}")
    epochs_done = 0
    if resume:
        epochs_done = read_checkpoint(checkpoint, network, {"steps": length.steps, "seed": seed})["epoch"] + 1
    training, validation = _load_split(data_directories, validation_directories, hold_out)
    module = UNetModule(
        network,
        settings=settings,
        voxel_angstrom=training[0].voxel_angstrom,
        validation=validation,
        steps=length.steps,
        seed=seed,
    )
    dataset = CropDataset(
        training, length=length.crops_per_epoch, stride=stride, seed=seed, settings=crops, targets=settings.targets
    )
    provenance = {
        "version": kaggle_cryoet.__version__,
        "commit": _commit(),
        "seed": seed,
        "started_from": None if start_from is None else dict(load_unet(start_from).provenance),
        "training_runs": [volume.name for volume in training],
        "validation_runs": [volume.name for volume in validation],
        "length": asdict(length),
        "crops": asdict(crops),
        "training": asdict(settings),
    }
    averaging = EMAWeightAveraging(decay=length.ema_decay)
    callbacks: list[Callback] = [
        SaveModel(output / MODEL_FOLDER, averaging, PRESET_SETTINGS[preset], provenance),
        averaging,
        SaveCheckpoint(checkpoint),
    ]
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with _quiet_trainer():
            _trainer(length, where, callbacks, csv_logger(output, epochs_done), progress).fit(
                module,
                DataLoader(dataset, batch_size=length.batch_size, sampler=EpochSampler(length.crops_per_epoch)),
                DataLoader(TensorDataset(torch.zeros(1))),
                ckpt_path=checkpoint if resume else None,
                weights_only=False,
            )
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error}); what was saved before is whole") from error
    return output / MODEL_FOLDER


def _network(preset: str, start_from: str | Path | None, seed: int) -> torch.nn.Module:
    """The network of a preset with fresh weights or those of a model folder."""
    if preset not in PRESET_SETTINGS:
        raise InputError(f"unknown preset {preset!r}; expected one of {', '.join(PRESET_SETTINGS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_unet(PRESET_SETTINGS[preset])
    if start_from is not None:
        start = load_unet(start_from)
        if start.settings != PRESET_SETTINGS[preset]:
            raise InputError(f"{start_from} holds {start.settings}, preset {preset!r} is {PRESET_SETTINGS[preset]}")
        network.load_state_dict(start.network.state_dict())
    if network.channels_last:
        network.to(memory_format=torch.channels_last_3d)
    return network


def _load_split(
    data: Sequence[str | Path], validation: Sequence[str | Path], hold_out: bool
) -> tuple[list[LabelledVolume], list[LabelledVolume]]:
    """Volumes to train on and to look at."""
    runs = find_labelled_runs([Path(directory) for directory in data])
    if validation:
        held_out = find_labelled_runs([Path(directory) for directory in validation])
    elif not hold_out:
        held_out = []
    else:
        if len(runs) < 2:
            raise InputError("one run alone leaves none to validate on; give more runs, or a folder for validation")
        held_out = runs[-max(1, len(runs) // 8) :]
        runs = runs[: -len(held_out)]
    shared = {run.tomogram_path for run in runs} & {run.tomogram_path for run in held_out}
    if shared:
        raise InputError(f"{len(shared)} tomograms are both trained on and validated on, one is {min(shared)}")
    names = [run.name for run in held_out]
    if len(set(names)) < len(names):
        raise InputError(f"runs to validate on need different names, got {', '.join(names)}")
    return [load_labelled_volume(run) for run in runs], [load_labelled_volume(run) for run in held_out]


def _trainer(
    length: TrainingLength, device: torch.device, callbacks: list[Callback], logger: CSVLogger, progress: bool
) -> lightning.Trainer:
    """A trainer with mixed precision and clipped gradients."""
    on_cuda = device.type == "cuda"
    return lightning.Trainer(
        accelerator=device.type,
        devices=[device.index] if on_cuda else 1,
        precision="16-mixed" if on_cuda else "bf16-mixed",
        max_epochs=length.epochs,
        check_val_every_n_epoch=length.validate_every,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=[*callbacks, TQDMProgressBar(refresh_rate=10)] if progress else callbacks,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


@contextmanager
def _quiet_trainer() -> Iterator[None]:
    """Without the trainer's banners and needless warnings; Ctrl-C comes out as such and goes on working."""
    chatty = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in chatty]
    on_interrupt = signal.getsignal(signal.SIGINT)
    for logger in chatty:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # lightning, on new torch
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    except SystemExit:  # the trainer's way to end after Ctrl-C, which it leaves disabled
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)


def _commit() -> str | None:
    """The commit of the source tree, if the package runs from one."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
