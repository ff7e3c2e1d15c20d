"""How many processes prepare what networks are trained on."""

import os
from collections.abc import Sequence

import torch

MOST_PROCESSES = 12


def loader_processes(devices: Sequence[torch.device]) -> int:
    """Processes that draw crops or images for each device: none on a CPU, which has better things to do."""
    if devices[0].type == "cpu":
        return 0
    return max(1, min(MOST_PROCESSES, (os.cpu_count() or 1) // len(devices)))
