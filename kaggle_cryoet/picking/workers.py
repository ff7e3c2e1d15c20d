"""One process per device, each with its share of the runs; one that dies is replaced."""

import logging
import multiprocessing
import multiprocessing.queues
import queue
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kaggle_cryoet.picking.pipeline import Outcome, pick_on_device
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.processes import end_with_parent
from kaggle_cryoet.tomogram import RunLocation

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MOST_SILENT_DEATHS = 5
"""So many workers in a row may die before they have done anything; then their device is given up. A tomogram that ends
its process does so twice."""


def _work(
    outcomes: "multiprocessing.queues.Queue[Outcome | None]",
    waiting: "Synchronized[int]",
    runs: Sequence[RunLocation],
    weights: Path,
    settings: PickSettings,
    device: torch.device,
    deadline: float | None,
) -> None:
    """A worker process: its outcomes, then None. The clock of the deadline is that of the machine."""
    end_with_parent()
    for outcome in pick_on_device(runs, weights, settings, device, deadline, lambda: waiting.value):
        outcomes.put(outcome)
    outcomes.put(None)


class _Worker:
    """A process that picks a share of runs, and what has been heard from it."""

    def __init__(
        self,
        share: Sequence[RunLocation],
        work: "_Work",
        device: torch.device,
        *,
        alone: bool = False,
        later: Sequence[RunLocation] = (),
        silent_deaths: int = 0,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.missing = list(share)
        self.alone = alone
        self.later = list(later)
        self.waiting: Synchronized[int] = context.Value("i", len(self.later))
        self.silent_deaths = silent_deaths
        self.outcomes: multiprocessing.queues.Queue[Outcome | None] = context.Queue()
        self.process = context.Process(
            target=_work,
            args=(self.outcomes, self.waiting, share, work.weights, work.settings, device, work.deadline),
            daemon=True,
        )
        with _main_hidden():
            self.process.start()

    def take_over(self, runs: Sequence[RunLocation]) -> None:
        """Have further runs picked when it is done; it knows from now on how many are waiting."""
        self.later += runs
        self.waiting.value = len(self.later)

    def hear(self, timeout: float) -> Outcome | None:
        """The next outcome, or None when the worker is done; `queue.Empty` if it says nothing in time."""
        outcome = self.outcomes.get(timeout=timeout)
        if outcome is not None:
            self.silent_deaths = 0
            self.missing = [run for run in self.missing if run.name != outcome.run]
        return outcome


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Spawned processes run the user's script once more, of which these need nothing; hide it from them."""
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is the same for all workers."""

    weights: Path
    settings: PickSettings
    deadline: float | None


def pick_in_processes(
    runs: Sequence[RunLocation],
    weights: Path,
    settings: PickSettings,
    devices: Sequence[torch.device],
    deadline: float | None,
) -> Iterator[Outcome]:
    """Pick with one process per device.

    When a process dies, the next of its runs is tried alone, and only if that fails as well is the run given up; then
    the others go on. After `MOST_SILENT_DEATHS` deaths without a tomogram between them the device is given up, and
    another one takes over; if there is none, all that are left fail.
    """
    work = _Work(weights=weights, settings=settings, deadline=deadline)
    shares = [runs[number :: len(devices)] for number in range(len(devices))]
    workers = [_Worker(share, work, device) for share, device in zip(shares, devices, strict=True) if share]
    usable = list(devices)
    try:
        while workers:
            for worker in list(workers):
                died = not worker.process.is_alive()  # asked before the queue is, so that nothing it said is overlooked
                try:
                    outcome = worker.hear(POLL_SECONDS / len(workers))
                except queue.Empty:
                    if died:
                        workers.remove(worker)
                        yield from _after_death(worker, work, workers, usable)
                    continue
                if outcome is not None:
                    yield outcome
                    continue
                workers.remove(worker)
                worker.process.join()
                if worker.later:
                    workers.append(_Worker(worker.later, work, worker.device))
    finally:
        for worker in workers:
            worker.process.terminate()


def _after_death(worker: _Worker, work: _Work, workers: list[_Worker], usable: list[torch.device]) -> Iterator[Outcome]:
    """Runs that are given up after a worker's death; what is left is given to a worker among `workers`, or a new one.

    A device that is given up leaves `usable`.
    """
    deaths = worker.silent_deaths + 1
    reason = f"the worker on {worker.device} died with exit status {worker.process.exitcode}"
    given_up = len(worker.missing) if worker.alone else 0  # none if it died when all was said
    left = worker.missing[given_up:] + worker.later
    yield from (Outcome(run=run.name, reason=reason) for run in worker.missing[:given_up])
    if not left:
        return
    if deaths < MOST_SILENT_DEATHS:
        logger.warning("%s; a new one goes on with %d tomograms", reason, len(left))
        now, later = (left, []) if worker.alone else (left[:1], left[1:])
        successor = _Worker(now, work, worker.device, alone=not worker.alone, later=later, silent_deaths=deaths)
        workers.append(successor)
        return
    usable.remove(worker.device)
    if not usable:
        yield from (Outcome(run=run.name, reason=reason) for run in left)
        return
    logger.warning("%s, the %dth in a row; another device goes on with %d tomograms", reason, deaths, len(left))
    if workers:
        min(workers, key=lambda other: len(other.missing) + len(other.later)).take_over(left)
    else:
        workers.append(_Worker(left, work, usable[0]))
