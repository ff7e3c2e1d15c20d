"""As many processes prepare batches as there are cores for them."""

import os

import pytest
import torch

from kaggle_cryoet.training.loaders import loader_processes


@pytest.mark.parametrize(("cores", "gpus", "expected"), [(4, 2, 2), (4, 1, 4), (1, 2, 1), (64, 2, 12), (None, 1, 1)])
def test_gpus_share_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int | None, gpus: int, expected: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert loader_processes([torch.device("cuda", number) for number in range(gpus)]) == expected


def test_a_cpu_has_better_things_to_do() -> None:
    assert loader_processes([torch.device("cpu")]) == 0
