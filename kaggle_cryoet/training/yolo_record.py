"""What a training of a detector shows and leaves: a bar, and the best model with a record of how it came about."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from kaggle_cryoet.models.store import TRAINING_FOLDER, YoloModel, save_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.particles import PARTICLES

if TYPE_CHECKING:
    from kaggle_cryoet.training.yolo_trainer import SliceTrainer

BEFORE_CHECKPOINT = "before_checkpoint"
"""An event of `SliceTrainer`."""
FIRST_THRESHOLD = 0.25
"""Threshold of every particle type until `train thresholds` fits them."""


class KeepModel:
    """Writes a model folder when the validation was better than ever before, with the record, and one each time."""

    def __init__(
        self,
        directory: Path,
        last: Path,
        settings: YoloSettings,
        provenance: Mapping[str, Any],
        *,
        minutes: float = 0.0,
    ) -> None:
        """Prepare; `minutes` are those of the training before it was interrupted."""
        self.directory = directory
        self.last = last
        self.settings = settings
        self.provenance = provenance
        self.begun = monotonic() - 60 * minutes

    def attach(self, trainer: "SliceTrainer") -> None:
        """Be called before each checkpoint, which then stands for models that are there, and at the end."""
        trainer.add_callback(BEFORE_CHECKPOINT, self.save)
        trainer.add_callback("on_train_end", self.copy_record)

    def save(self, trainer: "SliceTrainer") -> None:
        """Write the averaged network as the last one, and as the best if it is that."""
        provenance = {
            **self.provenance,
            "epochs": trainer.epoch + 1,
            "minutes": round((monotonic() - self.begun) / 60, 1),
            "validation": {name: float(value) for name, value in trainer.metrics.items() if "metrics/" in name},
        }
        model = YoloModel(
            network=trainer.ema.ema,
            settings=self.settings,
            thresholds=(FIRST_THRESHOLD,) * len(PARTICLES),
            provenance=provenance,
        )
        save_yolo(self.last, model)
        if trainer.fitness == trainer.best_fitness:
            save_yolo(self.directory, model)
        self.copy_record(trainer)

    def copy_record(self, trainer: "SliceTrainer") -> None:
        """Copy table and plots to the model."""
        target = self.directory / TRAINING_FOLDER
        target.mkdir(exist_ok=True)
        for path in [trainer.csv, *sorted(trainer.save_dir.glob("*.png"))]:
            if path.is_file():
                shutil.copyfile(path, target / path.name)


def show_progress(trainer: "SliceTrainer") -> None:
    """A bar over all batches, with the loss and the last validation beside it."""
    from tqdm.auto import tqdm

    bar: tqdm[Any] = tqdm(desc="training", unit="batch")
    shown: dict[str, str] = {}

    def start(trainer: "SliceTrainer") -> None:
        bar.total = trainer.epochs * len(trainer.train_loader)
        bar.n = bar.initial = trainer.start_epoch * len(trainer.train_loader)

    def step(trainer: "SliceTrainer") -> None:
        shown["loss"] = f"{sum(float(part) for part in trainer.tloss.values()):.3f}"
        bar.set_postfix(shown, refresh=False)
        bar.update()

    def look(trainer: "SliceTrainer") -> None:
        bar.total = trainer.epochs * len(trainer.train_loader)
        shown["mAP50"] = f"{trainer.metrics['metrics/mAP50(B)']:.3f}"

    for event, callback in (
        ("on_train_start", start),
        ("on_train_batch_end", step),
        ("on_fit_epoch_end", look),
        ("teardown", lambda _: bar.close()),
    ):
        trainer.add_callback(event, callback)
