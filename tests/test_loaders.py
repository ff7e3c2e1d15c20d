"""As many processes prepare batches as there are cores for them."""

import os

import pytest
import torch

from kaggle_cryoet.training.loaders import cores, loader_processes


@pytest.mark.parametrize(("granted", "gpus", "expected"), [(4, 2, 2), (4, 1, 4), (1, 2, 1), (64, 2, 12)])
def test_gpus_share_the_cores(monkeypatch: pytest.MonkeyPatch, granted: int, gpus: int, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(granted)), raising=False)
    assert loader_processes([torch.device("cuda", number) for number in range(gpus)]) == expected


@pytest.mark.parametrize(("there", "expected"), [(8, 8), (None, 1)])
def test_where_no_cores_are_granted_those_of_the_machine_count(
    monkeypatch: pytest.MonkeyPatch, there: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    assert cores() == expected


def test_a_cpu_has_better_things_to_do() -> None:
    assert loader_processes([torch.device("cpu")]) == 0
