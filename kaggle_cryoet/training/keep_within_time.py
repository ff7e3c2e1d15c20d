"""A training that ends in time: as many epochs as fit, with a schedule that is theirs."""

import time

import lightning
from lightning.pytorch.callbacks import Callback

from kaggle_cryoet.training.module import UNetModule
from kaggle_cryoet.training.time_limit import fitting_epochs
from kaggle_cryoet.training.trainer import TrainingLength


class KeepWithinTime(Callback):
    """Shortens the schedule to the epochs that fit into what is left of a time limit, by the longest so far.

    Looks at the validation score are timed by themselves, since only some epochs have one. What the first epoch waits
    for its first batch, simulated tomograms for example, counts but is not expected again.
    """

    def __init__(self, length: TrainingLength, ends: float) -> None:
        self.length = length
        self.ends = ends
        """By the monotonic clock, in seconds."""
        self.began = 0.0
        self.longest = 0.0
        self.look_began = 0.0
        self.longest_look = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: object, batch_index: int
    ) -> None:
        """Note when the first batch of a training, or else the epoch before, was there."""
        if not self.began:
            self.began = time.monotonic()

    def on_validation_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note when a look at the validation score begins."""
        self.look_began = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note how long it took, for which the epoch it is in is not to be blamed."""
        took = time.monotonic() - self.look_began
        self.longest_look = max(self.longest_look, took)
        self.began += took

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Shorten, or take back some of it."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.began)
        self.began = now
        fitting = fitting_epochs(
            trainer.current_epoch + 1,
            self.length.epochs,
            left_seconds=self.ends - now,
            epoch_seconds=self.longest,
            look_seconds=self.longest_look,
            look_every=self.length.validate_every,
        )
        fitting = trainer.strategy.broadcast(fitting)  # of the first device, whose clock counts
        trainer.fit_loop.max_epochs = fitting
        assert isinstance(module, UNetModule)
        module.steps = fitting * self.length.crops_per_epoch // self.length.batch_size
