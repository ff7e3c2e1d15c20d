"""Several trainings, one at a time on each device, as long as the time lasts."""

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.branches import UNET_FOLDER
from kaggle_cryoet.processes import end_with_parent
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.data import DataSettings
from kaggle_cryoet.training.unet import TrainingLength, train_unet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training on all the runs it is given."""

    name: str
    data: tuple[str, ...]
    """Tomograms, which have picks."""
    output: Path
    length: TrainingLength
    crops: CropSettings
    preset: str
    start_from: Path | None
    seed: int
    adapt: AdaptSettings = field(default_factory=AdaptSettings)


def train_side_by_side(
    trainings: Sequence[Training],
    devices: Sequence[torch.device],
    deadline: float,
    expected_seconds: float,
    *,
    progress: bool,
) -> Iterator[Training]:
    """Train, and yield each training when it is done; the first is always done, others only if there is time for them.

    Parameters
    ----------
    trainings
        What to train, in this order; those that an interrupted call has finished or begun are gone on with.
    devices
        Where: one process each if there are several.
    deadline
        `time.monotonic()` at which all should be done.
    expected_seconds
        Time that one takes, until the first one tells.
    progress
        Show a bar.
    """
    from tqdm.auto import tqdm

    device = devices[0].type
    with tqdm(total=len(trainings), desc="training", unit="network", disable=not progress) as bar:
        if len(devices) == 1:
            for number, training in enumerate(trainings):
                if number and time.monotonic() + expected_seconds > deadline and not _is_done(training):
                    continue
                expected_seconds = max(expected_seconds, _train(training, device))
                bar.update()
                yield training
            return
        context = multiprocessing.get_context("spawn")
        names = names_of_gpus(devices, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        pools = [  # one for each GPU, so that a process that dies takes no other with it
            ProcessPoolExecutor(1, context, initializer=_take_gpu, initargs=(name,)) for name in names
        ]
        try:
            idle, waiting, finished = list(pools), list(trainings), list[Training]()
            running = dict[Future[float], tuple[Training, ProcessPoolExecutor]]()
            while waiting or running or finished:
                while waiting and idle:
                    late = time.monotonic() + expected_seconds > deadline
                    if len(waiting) < len(trainings) and late and not _is_done(waiting[0]):
                        waiting.pop(0)
                        continue
                    training, pool = waiting.pop(0), idle.pop()
                    running[pool.submit(_train, training, device)] = training, pool
                yield from finished
                finished = []
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    training, pool = running.pop(done)
                    try:
                        expected_seconds = max(expected_seconds, done.result())
                    except BrokenProcessPool as error:
                        raise InputError(
                            f"the process that trained {training.name!r} was ended from outside; was memory short? "
                            "The same call goes on with what is done"
                        ) from error
                    idle.append(pool)
                    finished.append(training)
                    bar.update()
        except BaseException:
            for pool in pools:  # whose trainings would be waited for; they go on from their last checkpoints
                for process in list((pool._processes or {}).values()):
                    process.terminate()
            raise
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)


def names_of_gpus(devices: Sequence[torch.device], visible: str) -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` of a process for each device must be, given that of the one with all."""
    indices = [device.index or 0 for device in devices]
    return [visible.split(",")[index] for index in indices] if visible else [str(index) for index in indices]


def _take_gpu(name: str) -> None:
    """Let this process see one GPU, its own, and not outlive the one that it works for."""
    end_with_parent()
    os.environ["CUDA_VISIBLE_DEVICES"] = name


def _is_done(training: Training) -> bool:
    """Whether an interrupted call has finished it; there is a model from the first epoch on."""
    model = training.output / UNET_FOLDER
    return model.is_dir() and load_unet(model).provenance["epochs"] >= training.length.epochs


def _train(training: Training, device: str) -> float:
    """Train, or go on, or do nothing if it is done; the seconds it took."""
    began = time.monotonic()
    if _is_done(training):
        return 0.0
    has_checkpoint = (training.output / "checkpoints" / "last.ckpt").is_file()
    if not has_checkpoint:  # it may have ended between its first model and its first checkpoint
        shutil.rmtree(training.output, ignore_errors=True)
    train_unet(
        training.data,
        training.output,
        hold_out=False,
        preset=training.preset,
        start_from=training.start_from,
        resume=has_checkpoint,
        length=training.length,
        crops=training.crops,
        data=DataSettings(adapt=training.adapt),
        seed=training.seed,
        device=device,
        progress=False,
    )
    return time.monotonic() - began
