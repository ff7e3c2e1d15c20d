"""Processes that were begun for another one, and have nothing to do without it."""

import os
import threading
import time

ORPHANED_SECONDS = 5.0
"""How often a process asks whether it has been left alone."""


def end_with_parent() -> None:
    """End this process soon after the one that began it, however that ends."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process once it has another parent."""
    while os.getppid() == parent:
        time.sleep(ORPHANED_SECONDS)
    os._exit(1)
