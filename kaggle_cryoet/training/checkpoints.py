"""What a training leaves on disk: after each epoch a checkpoint to go on from, after each look at the score a model."""

import csv
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import CSVLogger

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel, save_unet
from kaggle_cryoet.models.unet3d import UNetSettings
from kaggle_cryoet.report.training_curves import read_log, save_training_curves
from kaggle_cryoet.training.module import ORIGIN, UNetModule
from kaggle_cryoet.training.trainer import TrainingLength

LOG_FOLDER = "log"
METRICS_FILE = "metrics.csv"
CURVES_FILE = "curves.png"
KEPT_FOLDER = "models"
UNREADABLE = (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, pickle.PickleError)
"""What torch raises of a file that is no checkpoint."""


class StopAtNonsense(Callback):
    """Ends a training whose loss is no number any more, before anything is written that would be of no use."""

    def __init__(self) -> None:
        self.finite: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Note the step, on the device, which need not be waited for."""
        finite = torch.isfinite(outputs["loss"].detach())
        self.finite = finite if self.finite is None else self.finite & finite

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Look."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Look."""
        self._look(trainer)

    def _look(self, trainer: lightning.Trainer) -> None:
        if self.finite is not None and not self.finite:
            raise InputError(
                f"the loss is not a number any more in epoch {trainer.current_epoch + 1}; what was saved is kept; "
                "try a lower learning rate, --set training.optimiser.learning_rate=..."
            )
        self.finite = None


class SaveModel(Callback):
    """Writes the model folder after each look at the validation score; what is written is the average."""

    def __init__(
        self,
        directory: Path,
        averaging: WeightAveraging,
        settings: UNetSettings,
        provenance: dict[str, Any],
        length: TrainingLength,
        *,
        saved: int = 0,
    ) -> None:
        self.length = length
        self.directory = directory
        self.averaging = averaging
        self.settings = settings
        self.provenance = provenance
        self.started = time.monotonic()
        self.saved = saved
        """Epochs after which it was saved last."""

    def state_dict(self) -> dict[str, Any]:
        """Seconds since the start, for the checkpoint."""
        return {"seconds": time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from the seconds before the interruption."""
        self.started = time.monotonic() - state_dict["seconds"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Have the score looked at after the first and the last epoch, whether or not its turn comes then.

        So no checkpoint is ever without a model, which holds the spectrum to go on with.
        """
        is_end = trainer.current_epoch + 1 in (1, trainer.max_epochs)
        trainer.check_val_every_n_epoch = 1 if is_end else self.length.validate_every

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save."""
        self._save(trainer, module, trainer.current_epoch + 1)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save what a time limit ended before its turn to be looked at, with the last thresholds."""
        if self.saved < trainer.current_epoch:
            self._save(trainer, module, trainer.current_epoch)

    def _save(self, trainer: lightning.Trainer, module: lightning.LightningModule, epochs: int) -> None:
        """Write what has become of the average after so many epochs."""
        averaged = self.averaging._average_model  # lightning has no public way to it
        if averaged is None or not isinstance(module, UNetModule) or not trainer.is_global_zero:
            return
        provenance = self.provenance | {
            "epochs": epochs,
            "minutes": round((time.monotonic() - self.started) / 60, 1),
            "validation": None if module.validation_score is None else module.validation_score.to_json_dict(),
        }
        model = UNetModel(
            network=averaged.module.get_submodule("network"),
            settings=self.settings,
            thresholds=module.thresholds,
            calibration=module.calibration,
            provenance=provenance,
        )
        save_unet(self.directory, model)
        self.saved = epochs
        if self.length.keep:
            kept = self.directory.parent / KEPT_FOLDER
            save_unet(kept / f"epoch-{epochs:04d}", model)
            for old in sorted(kept.glob("epoch-*"))[: -self.length.keep]:
                shutil.rmtree(old)


class DrawCurves(Callback):
    """Draws what was logged, beside the log."""

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Draw."""
        self._draw(trainer)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Draw with the loss of the last epoch."""
        self._draw(trainer)

    def _draw(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero and isinstance(trainer.logger, CSVLogger):
            trainer.logger.save()
            log = Path(trainer.logger.log_dir) / METRICS_FILE
            if log.is_file():  # without tomograms to look at there is nothing to draw at first
                save_training_curves(read_log(log), log.with_name(CURVES_FILE))


class SaveCheckpoint(Callback):
    """Writes a checkpoint after each epoch; the one before stays until the new one is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save."""
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        try:
            trainer.save_checkpoint(unfinished)
            if trainer.is_global_zero:
                unfinished.replace(self.path)
        finally:
            if trainer.is_global_zero:
                unfinished.unlink(missing_ok=True)


def read_checkpoint(path: Path, network: torch.nn.Module, origin: dict[str, int]) -> dict[str, Any]:
    """The content of a checkpoint, once it is sure that a training can go on from it.

    Raises
    ------
    InputError
        If there is none, it is broken, or it is of another network or of a training of another length or seed.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no checkpoint to resume from")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
        found = {name: value.shape for name, value in content["state_dict"].items()}
        int(content["epoch"])
    except UNREADABLE as error:
        raise InputError(f"{path}: not a whole checkpoint of a training ({type(error).__name__}: {error})") from None
    if found != {f"network.{name}": value.shape for name, value in network.state_dict().items()}:
        raise InputError(f"{path}: is of another network; resume with the preset the training was begun with")
    for name, value in content.get(ORIGIN, origin).items():
        if value != origin[name]:
            raise InputError(
                f"{path}: is of a training with {name} = {value}, got {origin[name]}; to train on in another way, "
                "start a new training from its model"
            )
    return content


def save_of_checkpoint(directory: Path, model: UNetModel, content: dict[str, Any], epochs: int) -> None:
    """Write a model folder anew with the average of a later checkpoint, which was looked at last as the model was."""
    weights = {name.removeprefix("network."): value for name, value in content["state_dict"].items()}
    model.network.load_state_dict(weights)
    save_unet(directory, replace(model, provenance={**model.provenance, "epochs": epochs}))


def csv_logger(output: Path, epochs_done: int) -> CSVLogger:
    """A log in `output/log/metrics.csv` that goes on after the rows of the epochs that are done."""
    path = output / LOG_FOLDER / METRICS_FILE
    path.with_name(CURVES_FILE).unlink(missing_ok=True)  # the logger warns of files that are there
    rows: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf8") as file:
            whole = (row for row in csv.DictReader(file) if (row.get("epoch") or "").isdecimal())  # the last may be cut
            rows = [{name: value for name, value in row.items() if name and value} for row in whole]
        path.unlink()
    logger = CSVLogger(output, name="", version=LOG_FOLDER)
    logger.experiment.metrics = [row for row in rows if int(row["epoch"]) < epochs_done]
    logger.save()
    return logger
