"""Simulated tomograms that are made while the training goes on: with each epoch some come, and the oldest go.

Which tomograms an epoch has depends on the settings, the seed and the number of the epoch alone, so that a training
that was interrupted goes on exactly as it would have. One process leads and has them simulated by others; whoever draws
crops waits for their files.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.simulation.network_denoising import check_denoiser
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.training.crops import CropDataset
from kaggle_cryoet.training.loaders import cores
from kaggle_cryoet.training.simulating import PICKS, simulate_specimen, simulator_digest, stay_back
from kaggle_cryoet.training.volumes import (
    GOLDEN_RATIO,
    LabelledVolume,
    equalised_share,
    split_weight,
)
from kaggle_cryoet.whole_file import whole_file

REQUEST_FILE = "request.json"
FIRST_SEED = 1_000_000_000
"""Seeds of streams begin here, far from those that are given to `simulate`."""


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What is simulated."""

    shape_zyx: tuple[int, int, int]
    """Voxels of each tomogram."""
    volumes: int = 16
    """Specimens at a time."""
    fresh: int = 4
    """How many of them are new in each epoch."""
    processes: int = 1
    """So many simulate at once; they share the processors."""
    setting: str = "training"
    """Of the simulator."""
    difficulty: float = 0.0
    """Of the simulator for the hardest specimens; those of the others lie evenly between 0 and this."""
    denoiser: str = "filters"
    """Of the simulator."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.fresh <= self.volumes or self.volumes < 1:
            raise InputError(f"a stream needs one tomogram or more, and no more fresh ones than that, got {self}")
        if self.processes < 1:
            raise InputError(f"a stream needs one process or more, got {self}")
        if self.setting not in NUISANCE_RANGES:
            raise InputError(f"unknown setting {self.setting!r}; expected one of {', '.join(NUISANCE_RANGES)}")
        if not -1 <= self.difficulty <= 1:
            raise InputError(f"expected a difficulty from -1 to 1, got {self.difficulty}")
        check_denoiser(self.denoiser)


class Stream:
    """Tomograms of each epoch, simulated in the background into a folder.

    Parameters
    ----------
    settings
        What is simulated.
    folder
        To write into; what is there of the same stream already is used.
    seed
        Of the training.
    spectrum, least_equalised
        As in `load_volumes`.
    tomogram_types
        Reconstructions of each specimen, as in `find_sources`.
    """

    def __init__(
        self,
        settings: StreamSettings,
        folder: Path,
        seed: int,
        spectrum: Sequence[float] = (),
        *,
        least_equalised: float = 1.0,
        tomogram_types: Sequence[str] = ("denoised",),
    ) -> None:
        self.settings = settings
        self.spectrum = spectrum
        self.least_equalised = least_equalised
        self.weight_of_type = dict(split_weight(text) for text in tomogram_types)
        self.folder = folder
        self.seed = FIRST_SEED + seed
        self._loaded: dict[int, list[LabelledVolume]] = {}
        self._begun: set[int] = set()
        self._pool: ProcessPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which begins without processes in the background."""
        return self.__dict__ | {"_loaded": {}, "_begun": set(), "_pool": None}

    def settle(self) -> None:
        """Keep what is in the folder of the very same stream, of the same simulator; remove what is there of others.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        settings = {name: value for name, value in asdict(self.settings).items() if name != "processes"}
        how = [self.seed, settings, self.spectrum, self.least_equalised, list(self.weight_of_type)]
        request = json.dumps([*how, simulator_digest()])
        path = self.folder / REQUEST_FILE
        if path.is_file() and path.read_text(encoding="utf8") == request:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        with whole_file(path) as partial:
            path.parent.mkdir(parents=True)
            partial.write_text(request, encoding="utf8")

    def begin(self, epoch: int, *, is_last: bool = False) -> None:
        """Have the specimens of an epoch and, if there is one, the next simulated, and remove those of earlier ones."""
        first = epoch * self.settings.fresh
        ahead = 0 if is_last else self.settings.fresh
        for number in range(first, first + self.settings.volumes + ahead):
            if number not in self._begun:
                self._begin(number)
        for path in self.folder.glob("*"):
            if path.name.isdecimal() and int(path.name) < first:
                shutil.rmtree(path, ignore_errors=True)

    def volumes(self, epoch: int) -> list[LabelledVolume]:
        """The tomograms of an epoch, once they are there.

        Raises
        ------
        InputError
            If one could not be made.
        """
        first = epoch * self.settings.fresh
        numbers = range(first, first + self.settings.volumes)
        self._loaded = {number: self._loaded.get(number) or self._load(number) for number in numbers}
        return [volume for volumes in self._loaded.values() for volume in volumes]

    def close(self) -> None:
        """End the processes in the background."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None

    def path(self, number: int) -> Path:
        """Folder of a specimen, which appears when all of it is there."""
        return self.folder / str(number)

    def name(self, number: int) -> str:
        """Name of a specimen."""
        return f"SIM_{self.seed}_{number}"

    def share(self, number: int) -> float:
        """How far its tomograms go to the spectrum."""
        return equalised_share(number, self.least_equalised)

    def difficulty(self, number: int) -> float:
        """Its share of the highest difficulty, any few in a row evenly spread."""
        return self.settings.difficulty * (number * GOLDEN_RATIO % 1)

    def _begin(self, number: int) -> None:
        """Have a specimen simulated."""
        if self._pool is None:
            threads = max(1, cores() // self.settings.processes)
            self._pool = ProcessPoolExecutor(
                self.settings.processes,
                multiprocessing.get_context("spawn"),
                initializer=stay_back,
                initargs=(threads,),
            )
        self._failed(number).unlink(missing_ok=True)
        self._begun.add(number)
        try:
            simulating = self._pool.submit(simulate_specimen, self, number)
        except BrokenProcessPool as error:
            raise InputError("a process that simulated tomograms was ended from outside; was memory short?") from error
        simulating.add_done_callback(functools.partial(self._note, number))

    def _note(self, number: int, simulating: Future[None]) -> None:
        """Say to those who wait for a specimen that it will not come."""
        error = None if simulating.cancelled() else simulating.exception()
        if error is not None:
            with contextlib.suppress(OSError):  # on a full disk it stays empty
                self.folder.mkdir(parents=True, exist_ok=True)
                self._failed(number).write_text(f"{error}" or type(error).__name__, encoding="utf8")

    def _failed(self, number: int) -> Path:
        return self.folder / f"{number}.failed"

    def _load(self, number: int) -> list[LabelledVolume]:
        """The tomograms of a specimen, waited for if need be."""
        path, failed = self.path(number), self._failed(number)
        parent = os.getppid() if get_worker_info() is not None else None
        while not path.exists():
            if parent is not None and os.getppid() != parent:
                raise InputError("the training that this is drawn for has ended")
            if failed.exists():
                raise InputError(f"{path}: could not be simulated ({failed.read_text(encoding='utf8')})")
            time.sleep(0.1)
        picks = read_copick(path / PICKS)
        return [
            LabelledVolume(
                name=self.name(number),
                volume=np.load(path / f"{tomogram_type}.npy", mmap_mode="r"),
                picks=picks,
                voxel_angstrom=CZII_VOXEL_ANGSTROM,
                weight=weight,
            )
            for tomogram_type, weight in self.weight_of_type.items()
        ]


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


class LeadStream(Callback):
    """Has a stream's specimens simulated ahead of those who draw from them, in the first process alone."""

    def __init__(self, stream: Stream, first_epoch: int) -> None:
        self.stream = stream
        self.first_epoch = first_epoch

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Begin before the loaders do."""
        self._begin(trainer, self.first_epoch)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Go on."""
        self._begin(trainer, trainer.current_epoch)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """End."""
        self.stream.close()

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """End."""
        self.stream.close()

    def _begin(self, trainer: lightning.Trainer, epoch: int) -> None:
        if trainer.is_global_zero and epoch < (trainer.max_epochs or 0):
            self.stream.begin(epoch, is_last=epoch + 1 == trainer.max_epochs)
