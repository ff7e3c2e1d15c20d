"""Runs in, picks out: tomograms are read ahead, computed one by one on each device, and a bad one stops no other."""

import logging
import multiprocessing
import multiprocessing.queues
import queue
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel, load_unet
from kaggle_cryoet.picking.candidates import LocaliseSettings, find_candidates
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.segment import SegmentSettings, segment
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.tomogram import RunLocation, read_tomogram

logger = logging.getLogger(__name__)

WORKER_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class PickSettings:
    """How tomograms are picked."""

    segment: SegmentSettings = field(default_factory=SegmentSettings)
    """How the network is applied."""
    localise: LocaliseSettings = field(default_factory=LocaliseSettings)
    """How scores become points."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of one run."""

    run: str
    picks: Picks | None = None
    """None if the run failed."""
    reason: str = ""
    """Why it failed."""
    shape_zyx: tuple[int, ...] = ()
    """Shape of the tomogram in voxels."""
    seconds: float = 0.0
    """From the moment its voxels were there to its picks."""


def pick_tomogram(
    volume: NDArray[np.float32], voxel_angstrom: float, model: UNetModel, settings: PickSettings, device: torch.device
) -> Picks:
    """Picks of a normalised `(z, y, x)` volume."""
    grid = segment(model.network, volume, settings=settings.segment, device=device)
    return find_candidates(grid, voxel_angstrom=voxel_angstrom, thresholds=model.thresholds, settings=settings.localise)


def pick_runs(
    runs: Sequence[RunLocation],
    weights: Path,
    *,
    settings: PickSettings,
    devices: Sequence[torch.device],
    deadline: float | None = None,
) -> Iterator[Outcome]:
    """Pick runs, one worker process per device if there are several; outcomes come in the order in which they are done.

    Parameters
    ----------
    runs
        What to pick.
    weights
        Folder of the U-Net.
    settings
        How.
    devices
        Where.
    deadline
        `time.monotonic()` after which no further tomogram is begun; runs not begun have no outcome.
    """
    if len(devices) == 1 or len(runs) == 1:
        model = load_unet(weights)
        yield from _pick_on_device(runs, model, settings, devices[0], deadline)
    else:
        yield from _pick_in_processes(runs, weights, settings, devices, deadline)


def _read(run: RunLocation) -> tuple[NDArray[np.float32], float]:
    """Normalised volume and voxel size."""
    tomogram = read_tomogram(run)
    return normalise(tomogram.data), tomogram.voxel_angstrom


def _read_ahead(
    runs: Sequence[RunLocation],
) -> Generator[tuple[RunLocation, Future[tuple[NDArray[np.float32], float]]], None, None]:
    """Each run with its finished reading; the next one is read meanwhile, never more than one ahead."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        following = reader.submit(_read, runs[0])
        for number, run in enumerate(runs):
            reading = following
            wait([reading])
            if number + 1 < len(runs):
                following = reader.submit(_read, runs[number + 1])
            yield run, reading


def _pick_on_device(
    runs: Sequence[RunLocation],
    model: UNetModel,
    settings: PickSettings,
    device: torch.device,
    deadline: float | None,
) -> Iterator[Outcome]:
    """Pick runs one by one; none is begun that would miss the deadline if it took as long as the longest so far."""
    longest = 0.0
    with closing(_read_ahead(runs)) as readings:
        for run, reading in readings:
            started = time.monotonic()
            if deadline is not None and started + longest > deadline:
                return
            try:
                volume, voxel_angstrom = reading.result()
                picks = pick_tomogram(volume, voxel_angstrom, model, settings, device)
            except (InputError, OSError, MemoryError, RuntimeError, ArithmeticError) as error:
                yield Outcome(run=run.name, reason=str(error) or type(error).__name__)
                continue
            seconds = time.monotonic() - started
            longest = max(longest, seconds)
            yield Outcome(run=run.name, picks=picks, shape_zyx=volume.shape, seconds=seconds)


def _work(
    outcomes: "multiprocessing.queues.Queue[Outcome | None]",
    runs: Sequence[RunLocation],
    weights: Path,
    settings: PickSettings,
    device: torch.device,
    seconds_left: float | None,
) -> None:
    """A worker process: its outcomes, then None."""
    deadline = None if seconds_left is None else time.monotonic() + seconds_left
    for outcome in _pick_on_device(runs, load_unet(weights), settings, device, deadline):
        outcomes.put(outcome)
    outcomes.put(None)


def _pick_in_processes(
    runs: Sequence[RunLocation],
    weights: Path,
    settings: PickSettings,
    devices: Sequence[torch.device],
    deadline: float | None,
) -> Iterator[Outcome]:
    """Pick with one process per device; the runs of a process that dies fail with its exit status as the reason."""
    context = multiprocessing.get_context("spawn")
    seconds_left = None if deadline is None else deadline - time.monotonic()
    workers = []
    for number, device in enumerate(devices):
        share = runs[number :: len(devices)]
        outcomes = context.Queue()
        process = context.Process(
            target=_work, args=(outcomes, share, weights, settings, device, seconds_left), daemon=True
        )
        process.start()
        workers.append((process, outcomes, device, {run.name for run in share}))
    try:
        while workers:
            for worker in list(workers):
                process, outcomes, device, missing = worker
                died = not process.is_alive()  # asked before the queue is, so that nothing it said is overlooked
                try:
                    outcome = outcomes.get(timeout=WORKER_POLL_SECONDS / len(workers))
                except queue.Empty:
                    if died:
                        workers.remove(worker)
                        reason = f"the worker on {device} died with exit status {process.exitcode}"
                        yield from (Outcome(run=run, reason=reason) for run in sorted(missing))
                    continue
                if outcome is None:
                    workers.remove(worker)
                    process.join()
                else:
                    missing.discard(outcome.run)
                    yield outcome
    finally:
        for process, *_ in workers:
            process.terminate()
