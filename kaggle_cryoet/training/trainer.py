"""Lightning's trainer as it is used here: on one device or several, and quiet."""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.precision import cpu_has_bfloat16
from kaggle_cryoet.training.crops import EpochSampler

logger = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

BFLOAT16_SINCE = (8, 0)
"""Compute capability of the first GPUs that have it."""
UNWRITTEN_DEPTH = 2
"""On a CPU the gradient of a bfloat16 3x3x3 convolution over so many sections is whatever lay in memory (oneDNN 3.12,
torch 2.14.1); over fewer or more it is right."""


@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """How long, in what portions."""

    epochs: int = 20
    """An epoch is a fixed number of crops, no pass over the data; a checkpoint is written after each."""
    crops_per_epoch: int = 800
    batch_size: int = 4
    """Crops of one step, on all devices together."""
    validate_every: int = 2
    """Epochs from one look at the validation score to the next; there is one after the first and after the last epoch
    in any case."""
    ema_decay: float = 0.998
    """Decay per step of the exponential moving average of the weights; the average is what is kept."""
    keep: int = 0
    """So many of the latest models are kept apart, for an average."""

    def __post_init__(self) -> None:
        """Check that every number makes sense."""
        if min(self.epochs, self.crops_per_epoch, self.batch_size, self.validate_every) < 1 or self.keep < 0:
            raise InputError(f"epochs, crops, batch size and validation interval must be 1 or more, got {self}")
        if self.crops_per_epoch % self.batch_size:
            raise InputError(f"crops per epoch must be a multiple of the batch size, got {self}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"the decay of the average must be 0 or more and less than 1, got {self.ema_decay}")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.crops_per_epoch // self.batch_size


class CropLoaders(lightning.LightningDataModule):
    """Crops to train on, each process its share of every batch; and one empty batch to validate by."""

    def __init__(
        self, dataset: Dataset[tuple[Tensor, Tensor]], length: TrainingLength, workers: int, first_epoch: int
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.length = length
        self.workers = workers
        self.first_epoch = first_epoch

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Called by the trainer in each process."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            self.dataset,
            batch_size=self.length.batch_size // processes,
            sampler=EpochSampler(
                self.length.crops_per_epoch, rank=rank, processes=processes, first_epoch=self.first_epoch
            ),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.workers > 0 and torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """One batch without meaning."""
        return DataLoader(TensorDataset(torch.zeros(1)))


def devices_that_share(devices: Sequence[torch.device], batch_size: int) -> list[torch.device]:
    """As many of the devices as divide a batch evenly; one in a notebook, which lightning begins no processes in."""
    if len(devices) > 1 and hasattr(sys, "ps1"):
        logger.warning("in a notebook one GPU trains; `kaggle-cryoet train unet` takes all %d", len(devices))
        return list(devices[:1])
    return list(devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)])


def make_trainer(
    length: TrainingLength,
    devices: Sequence[torch.device],
    precision: Precision,
    callbacks: Sequence[Callback],
    logger: CSVLogger,
    *,
    progress: bool,
) -> lightning.Trainer:
    """A trainer with mixed precision and clipped gradients; of several devices each has a process of its own."""
    on_cuda = devices[0].type == "cuda"
    return lightning.Trainer(
        accelerator=devices[0].type,
        devices=[device.index for device in devices] if on_cuda else len(devices),
        strategy=DDPStrategy(start_method="spawn") if len(devices) > 1 else "auto",
        plugins=[LightningEnvironment()],  # its own processes, whatever a scheduler has begun
        use_distributed_sampler=False,
        precision=precision,
        benchmark=on_cuda,
        max_epochs=length.epochs,
        check_val_every_n_epoch=length.validate_every,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        callbacks=[*callbacks, TQDMProgressBar(refresh_rate=1)] if progress else list(callbacks),
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def training_precision(devices: Sequence[torch.device], network: nn.Module, crop_depth: int) -> Precision:
    """How to compute, in lightning's words: half precision where the device has it and gradients are right in it.

    The network's coarsest level has `crop_depth / multiple` sections, those above it twice as many each.
    """
    if devices[0].type == "cuda":
        return "bf16-mixed" if _all_have_bfloat16(devices) else "16-mixed"
    multiple: int = network.multiple  # type: ignore[assignment]
    return "bf16-mixed" if cpu_has_bfloat16() and crop_depth > UNWRITTEN_DEPTH * multiple else "32-true"


def _all_have_bfloat16(devices: Sequence[torch.device]) -> bool:
    """Whether every GPU multiplies bfloat16 natively, which needs no scaling of the loss; a T4 does not."""
    return all(torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE for device in devices)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the trainer's banners and needless warnings; Ctrl-C comes out as such and goes on working."""
    chatty = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in chatty]
    on_interrupt = signal.getsignal(signal.SIGINT)
    for one in chatty:
        one.setLevel(logging.WARNING)
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
        for one, level in zip(chatty, levels, strict=True):
            one.setLevel(level)
