"""Train a 3D U-Net on labelled tomograms, from nothing or from a model folder, and go on where it stopped."""

import logging
import subprocess
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import kaggle_cryoet
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel, load_unet, save_unet
from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, UNetSettings, build_unet
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
    """Epochs from one look at the validation score to the next."""
    ema_decay: float = 0.998
    """Decay per step of the exponential moving average of the weights; the average is what is kept."""

    def __post_init__(self) -> None:
        """Check that every number makes sense."""
        if min(self.epochs, self.crops_per_epoch, self.batch_size, self.validate_every) < 1:
            raise InputError(f"epochs, crops, batch size and validation interval must be 1 or more, got {self}")
        if self.crops_per_epoch % self.batch_size:
            raise InputError(f"crops per epoch must be a multiple of the batch size, got {self}")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.crops_per_epoch // self.batch_size


class SaveModel(Callback):
    """Writes the model folder after each look at the validation score; what is written is the average."""

    def __init__(
        self, directory: Path, averaging: WeightAveraging, settings: UNetSettings, provenance: dict[str, Any]
    ) -> None:
        self.directory = directory
        self.averaging = averaging
        self.settings = settings
        self.provenance = provenance
        self.started = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save, unless this was the trainer's trial run before the first step."""
        if trainer.sanity_checking or not isinstance(module, UNetModule) or module.validation_score is None:
            return
        averaged = self.averaging._average_model  # lightning has no public way to it
        if averaged is None:
            return
        provenance = self.provenance | {
            "epochs": trainer.current_epoch + 1,
            "minutes": round((time.monotonic() - self.started) / 60, 1),
            "validation": module.validation_score.to_json_dict(),
        }
        save_unet(
            self.directory,
            UNetModel(
                network=averaged.module.get_submodule("network"),
                settings=self.settings,
                thresholds=module.thresholds,
                provenance=provenance,
            ),
        )


def train_unet(
    data_directories: Sequence[str | Path],
    output: str | Path,
    *,
    validation_directories: Sequence[str | Path] = (),
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
        Folders with labelled runs that are not trained on; one in eight of the runs, at least one, if not given.
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
    if resume and not checkpoint.is_file():
        raise InputError(f"{checkpoint}: there is no checkpoint to resume from")
    if not resume and checkpoint.exists():
        raise InputError(f"{output} holds a training already; resume it or choose another folder")
    if preset not in PRESET_SETTINGS:
        raise InputError(f"unknown preset {preset!r}; expected one of {', '.join(PRESET_SETTINGS)}")
    training, validation = _load_split(data_directories, validation_directories)

    lightning.seed_everything(seed, verbose=False)
    network = build_unet(PRESET_SETTINGS[preset])
    if start_from is not None:
        start = load_unet(start_from)
        if start.settings != PRESET_SETTINGS[preset]:
            raise InputError(f"{start_from} holds {start.settings}, preset {preset!r} is {PRESET_SETTINGS[preset]}")
        network.load_state_dict(start.network.state_dict())
    if network.channels_last:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    stride: int = network.stride  # type: ignore[assignment]
    if any(edge % network.multiple for edge in crops.shape_zyx):  # type: ignore[operator]
        raise InputError(f"edges of crops must be multiples of {network.multiple}, got {crops.shape_zyx}")
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
        "started_from": str(start_from) if start_from else None,
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
        ModelCheckpoint(dirpath=output / "checkpoints", save_last=True, save_top_k=0, every_n_epochs=1),
    ]
    trainer = _trainer(output, length, device, callbacks, progress)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        trainer.fit(
            module,
            DataLoader(dataset, batch_size=length.batch_size, sampler=EpochSampler(length.crops_per_epoch)),
            DataLoader(TensorDataset(torch.zeros(1))),
            ckpt_path=checkpoint if resume else None,
            weights_only=False,
        )
    return output / MODEL_FOLDER


def _load_split(
    data: Sequence[str | Path], validation: Sequence[str | Path]
) -> tuple[list[LabelledVolume], list[LabelledVolume]]:
    """Volumes to train on and to look at."""
    runs = find_labelled_runs([Path(directory) for directory in data])
    if validation:
        held_out = find_labelled_runs([Path(directory) for directory in validation])
    else:
        if len(runs) < 2:
            raise InputError("one run alone leaves none to validate on; give more runs, or a folder for validation")
        held_out = runs[-max(1, len(runs) // 8) :]
        runs = runs[: -len(held_out)]
    return [load_labelled_volume(run) for run in runs], [load_labelled_volume(run) for run in held_out]


def _trainer(
    output: Path, length: TrainingLength, device: str, callbacks: list[Callback], progress: bool
) -> lightning.Trainer:
    """A trainer with mixed precision, clipped gradients and a csv log."""
    on_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    return lightning.Trainer(
        accelerator="cuda" if on_cuda else "cpu",
        devices=1,
        precision="16-mixed" if on_cuda else "bf16-mixed",
        max_epochs=length.epochs,
        check_val_every_n_epoch=length.validate_every,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        logger=CSVLogger(output, name="", version="log"),
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=50,
    )


def _commit() -> str | None:
    """The commit of the source tree, if the package runs from one."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
