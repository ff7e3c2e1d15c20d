"""Runs in, picks out: tomograms are read ahead, computed one by one on each device, and a bad one stops no other."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.adapt import AdaptSettings, read_adapted
from kaggle_cryoet.picking.devices import probe
from kaggle_cryoet.picking.equalise import Shown, show
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.pace import Pace
from kaggle_cryoet.picking.pickers import Picker, load_pickers
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.tomogram import RunLocation

logger = logging.getLogger(__name__)

FAULTS_OF_ONE_TOMOGRAM = (InputError, OSError, MemoryError, RuntimeError, ArithmeticError)
"""What a bad tomogram, or a device that gives up, is known to raise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of one run."""

    run: str
    picks: Picks | None = None
    """None if the run failed."""
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    """From the moment its voxels were there to its picks."""


def _failure(run: str, error: Exception) -> Outcome:
    """A run that fails, while the others go on, whatever the reason; one that nobody foresaw is told with its place."""
    if isinstance(error, FAULTS_OF_ONE_TOMOGRAM):
        return Outcome(run=run, reason=str(error) or type(error).__name__)
    logger.error("%s: an error that nobody foresaw", run, exc_info=error)
    return Outcome(run=run, reason=f"{type(error).__name__}: {error}")


def pick_runs(
    runs: Sequence[RunLocation],
    weights: Path,
    *,
    settings: PickSettings,
    devices: Sequence[torch.device],
    deadline: float | None = None,
) -> Generator[Outcome, None, None]:
    """Pick runs, one worker process per device if there are several; outcomes come in the order in which they are done.

    Parameters
    ----------
    runs
        What to pick.
    weights
        Folder of the models, see `branches.find_models`.
    settings
        How, at best: with a deadline, tomograms are picked without their own statistics, with fewer flips, less
        overlap, or by a lesser branch, if that saves the rest.
    devices
        Where. A GPU that stops working is replaced by the CPU.
    deadline
        `time.monotonic()` after which no further tomogram is begun; runs not begun have no outcome.
    """
    if len(devices) == 1 or len(runs) == 1:
        yield from pick_on_device(runs, weights, settings, devices[0], deadline)
    elif runs:
        from kaggle_cryoet.picking.workers import pick_in_processes

        yield from pick_in_processes(runs, weights, settings, devices, deadline)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tomogram:
    """A tomogram as it is shown to networks."""

    shown: Shown
    shape_zyx: tuple[int, ...]
    voxel_angstrom: float
    exchanged: bool
    """Whether its y and x are those of the file exchanged."""


def _read(run: RunLocation, spectra: frozenset[tuple[float, ...]], settings: AdaptSettings) -> _Tomogram:
    """Read a run, adapt and normalise it, and give it the spectra that the networks know."""
    tomogram, exchanged = read_adapted(run, settings)
    volume, voxel_angstrom = normalise(tomogram.data), tomogram.voxel_angstrom
    del tomogram  # as large as what is made of it, while another one is in the networks
    shown = show(volume, spectra)
    return _Tomogram(shown=shown, shape_zyx=volume.shape, voxel_angstrom=voxel_angstrom, exchanged=exchanged)


def _read_ahead(
    runs: Sequence[RunLocation], spectra: frozenset[tuple[float, ...]], settings: AdaptSettings
) -> Generator[tuple[RunLocation, Future[_Tomogram]], None, None]:
    """Each run with its reading; the next one is read meanwhile, never more than one ahead."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        following = [reader.submit(_read, runs[0], spectra, settings)] if runs else []
        for number, run in enumerate(runs):
            reading = following.pop()
            if number + 1 < len(runs):
                following.append(reader.submit(_read, runs[number + 1], spectra, settings))
            yield run, reading


def pick_on_device(
    runs: Sequence[RunLocation],
    weights: Path,
    settings: PickSettings,
    device: torch.device,
    deadline: float | None,
    waiting: Callable[[], int] = lambda: 0,
) -> Iterator[Outcome]:
    """Pick runs one by one; while one is in the networks, the next is read, and on a GPU the one before is decided.

    So many others are waiting for the device, which share the time that is left.
    """
    looker = _Looker(weights, settings, device, deadline)
    deciding: _Deciding | None = None
    with (
        closing(_read_ahead(runs, looker.spectra, settings.adapt)) as readings,
        ThreadPoolExecutor(max_workers=1) as decider,
    ):
        for number, (run, reading) in enumerate(readings):
            asked = time.monotonic()
            before, deciding = deciding, None
            failed = None
            try:
                tomogram = reading.result()
                began = time.monotonic()
                seen = looker.look(tomogram, left=len(runs) - number + waiting(), asked=asked)
                if seen is not None:
                    deciding = _Deciding(
                        run=run.name,
                        began=began,
                        picks=decider.submit(
                            seen.decide, tomogram.shape_zyx, tomogram.voxel_angstrom, exchanged=tomogram.exchanged
                        ),
                    )
            except Exception as error:
                failed = _failure(run.name, error)
            if before is not None:
                yield before.outcome()
            if failed is not None:
                yield failed
            elif deciding is None:  # no time for another
                return
            elif looker.device.type == "cpu":  # which has nothing to gain from doing two things at once
                yield deciding.outcome()
                deciding = None
        if deciding is not None:
            yield deciding.outcome()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What networks made of a tomogram."""

    evidence: Any
    picker: Picker
    settings: PickSettings

    def decide(self, shape_zyx: tuple[int, ...], voxel_angstrom: float, *, exchanged: bool) -> tuple[Picks, float]:
        """Picks of the tomogram as it is in its file, and when they were there."""
        picks = self.picker.decide(self.evidence, shape_zyx, voxel_angstrom, self.settings)
        return picks.with_y_and_x_exchanged() if exchanged else picks, time.monotonic()


class _Looker:
    """The networks of a branch on their device, at the pace that a deadline allows."""

    def __init__(self, weights: Path, settings: PickSettings, device: torch.device, deadline: float | None) -> None:
        self.weights = weights
        self.branch = settings.branch
        self.device = device
        self.pickers = load_pickers(settings.branch, weights)
        self.pace = Pace(settings, plans=partial(self.pickers[self.branch].plans, settings), deadline=deadline)
        self._before: tuple[PickSettings, tuple[int, ...], float] | None = None

    @property
    def spectra(self) -> frozenset[tuple[float, ...]]:
        """Spectra of the versions of a tomogram that the networks have to be shown."""
        return self.pickers[self.branch].spectra

    def look(self, tomogram: _Tomogram, *, left: int, asked: float) -> _Seen | None:
        """The next tomogram of `left`, which was asked for at a time; None if time is too short for it."""
        if self._before is not None:
            settings, shape_zyx, asked_before = self._before
            self.pace.record(settings, shape_zyx, asked - asked_before)
        self._before = None
        chosen = self.pace.choose(tomogram.shape_zyx, left=left, now=time.monotonic())
        if chosen is None:
            return None
        try:
            evidence = self.pickers[chosen.branch].look(tomogram.shown, chosen, self.device)
        except RuntimeError as error:
            fault = probe(self.device) if self.device.type == "cuda" else None
            if fault is None:
                raise
            logger.warning("%s stopped working (%s; %s); going on with the CPU", self.device, error, fault)
            self.device = torch.device("cpu")
            self.pickers = load_pickers(self.branch, self.weights)  # a broken GPU does not give its copy back
            evidence = self.pickers[chosen.branch].look(tomogram.shown, chosen, self.device)
        self._before = chosen, tomogram.shape_zyx, asked
        return _Seen(evidence=evidence, picker=self.pickers[chosen.branch], settings=chosen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Deciding:
    """A tomogram that the networks are done with."""

    run: str
    began: float
    picks: Future[tuple[Picks, float]]

    def outcome(self) -> Outcome:
        """What became of it."""
        try:
            picks, ended = self.picks.result()
        except Exception as error:
            return _failure(self.run, error)
        return Outcome(run=self.run, picks=picks, seconds=ended - self.began)
