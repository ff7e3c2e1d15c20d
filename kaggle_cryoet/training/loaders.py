"""How many processes prepare what networks are trained on."""

import os
from collections.abc import Sequence

import torch

MOST_PROCESSES = 12


def cores() -> int:
    """Cores that this process may use, of which a cluster grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes(devices: Sequence[torch.device]) -> int:
    """Processes that draw crops or images for each device: none on a CPU, which has better things to do."""
    if devices[0].type == "cpu":
        return 0
    return max(1, min(MOST_PROCESSES, cores() // len(devices)))
