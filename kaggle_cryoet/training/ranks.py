"""What the processes of a training on several devices, one each, take care of."""

import atexit
import multiprocessing
import os
import sys
from multiprocessing.util import Finalize

import lightning
from lightning.pytorch.callbacks import Callback


class LeaveAtOnce(Callback):
    """Ends a process whose training has failed without waiting for the others.

    The others may wait for it within a collective operation; NCCL's communicators, which lightning has destroyed when a
    process ends, wait for the others; and Python waits for processes that simulate. What went wrong has been written
    down, for the process that began them all, before a process comes to its end.
    """

    def __init__(self) -> None:
        self._leaving: Finalize[None] | None = None

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Be the first to be called at the end, of those that are by then."""
        if trainer.world_size > 1:
            self._leaving = Finalize(None, _leave, exitpriority=100)
            atexit.register(_leave)  # from Python 3.13 on, processes call no finalizers

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """All went well."""
        if self._leaving is not None:
            self._leaving.cancel()
            atexit.unregister(_leave)
            self._leaving = None


def _leave() -> None:
    for child in multiprocessing.active_children():
        child.kill()
    sys.stderr.flush()
    os._exit(1)
