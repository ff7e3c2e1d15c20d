"""Simulated tomograms that are made while the training goes on: with each epoch some come, and the oldest go.

Which tomograms an epoch has depends on the settings, the seed and the number of the epoch alone, so that a training
that was interrupted goes on exactly as it would have.
"""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.training.crops import CropDataset
from kaggle_cryoet.training.volumes import LabelledVolume, equalised_share, load_labelled_volume

FIRST_SEED = 1_000_000_000
"""Seeds of streamed tomograms begin here, far from those that are given to `simulate`."""
SEEDS_OF_A_TRAINING = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What is simulated."""

    shape_zyx: tuple[int, int, int]
    """Voxels of each tomogram."""
    volumes: int = 16
    """Tomograms at a time."""
    fresh: int = 4
    """How many of them are new in each epoch."""
    setting: str = "training"
    """Of the simulator."""
    difficulty: float = 0.0
    """Of the simulator."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.fresh <= self.volumes or self.volumes < 1:
            raise InputError(f"a stream needs one tomogram or more, and no more fresh ones than that, got {self}")


class Stream:
    """Tomograms of each epoch, simulated by a process in the background into a folder."""

    def __init__(
        self,
        settings: StreamSettings,
        folder: Path,
        seed: int,
        spectrum: Sequence[float] = (),
        *,
        least_equalised: float = 1.0,
    ) -> None:
        self.settings = settings
        self.spectrum = spectrum
        self.least_equalised = least_equalised
        self.folder = folder
        self.first_seed = FIRST_SEED + seed * SEEDS_OF_A_TRAINING
        self._loaded: dict[int, LabelledVolume] = {}
        self._simulating: dict[int, Future[None]] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which begins without a process of its own in the background."""
        return self.__dict__ | {"_loaded": {}, "_simulating": {}, "_pool": None}

    def volumes(self, epoch: int) -> list[LabelledVolume]:
        """The tomograms of an epoch; those of the next are begun, those of earlier ones are gone."""
        first = epoch * self.settings.fresh
        numbers = range(first, first + self.settings.volumes)
        leads = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if leads:
            for number in range(first, numbers.stop + self.settings.fresh):
                self._begin(number)
            for number in [number for number in self._loaded if number < first]:
                shutil.rmtree(self._path(number), ignore_errors=True)
        self._loaded = {number: self._load(number) for number in numbers}
        return list(self._loaded.values())

    def close(self) -> None:
        """End the process in the background."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._simulating = None, {}

    def _path(self, number: int) -> Path:
        return self.folder / str(number)

    def _begin(self, number: int) -> None:
        """Have a tomogram simulated if nobody has asked for it yet."""
        if number in self._simulating or number in self._loaded:
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_stay_back)
        self._simulating[number] = self._pool.submit(
            _simulate, self._path(number), self.first_seed + number, self.settings
        )

    def _load(self, number: int) -> LabelledVolume:
        """A tomogram, waited for if need be."""
        if number in self._loaded:
            return self._loaded[number]
        simulating = self._simulating.pop(number, None)
        if simulating is not None:
            simulating.result()
        runs = self._path(number) / "static" / "ExperimentRuns"
        while not (runs.is_dir() and any(runs.iterdir())):  # another process makes it; a run appears when it is whole
            time.sleep(0.5)
        share = equalised_share(number, self.least_equalised)
        return load_labelled_volume(find_runs(self._path(number))[0], spectrum=self.spectrum, share=share)


class StreamedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of tomograms that stay and of those of a stream; crop number i is always the same."""

    def __init__(
        self, volumes: Sequence[LabelledVolume], stream: Stream, crops_of: Callable[..., CropDataset], length: int
    ) -> None:
        self.volumes = volumes
        self.stream = stream
        self.crops_of = crops_of
        self.length = length
        self._epoch = -1
        self._crops: CropDataset | None = None

    def __len__(self) -> int:
        """Return the number of crops in one epoch."""
        return self.length

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw crop `number` from the tomograms of its epoch."""
        epoch = number // self.length
        if self._crops is None or epoch != self._epoch:
            self._crops = self.crops_of([*self.volumes, *self.stream.volumes(epoch)], length=self.length)
            self._epoch = epoch
        return self._crops[number]


def _stay_back() -> None:
    """Leave the processors to the training, and Ctrl-C to the process that asks."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _simulate(folder: Path, seed: int, settings: StreamSettings) -> None:
    from kaggle_cryoet.simulation.dataset import simulate

    simulate(
        folder,
        runs=1,
        shape_zyx=settings.shape_zyx,
        seed=seed,
        setting=settings.setting,
        difficulty=settings.difficulty,
    )
