"""Inputs that several test modules share, and where they run: on the CPU, the same everywhere, but for `--gpu`."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="Do not hide the GPUs, and run the tests that need one.")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture
def volume() -> NDArray[np.float32]:
    """`(10, 14, 19)` noise: three different edges, none a multiple of a chunk of 8."""
    return np.random.default_rng(3).normal(size=(10, 14, 19)).astype(np.float32)


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """Folder of a small U-Net with random weights; what it finds means nothing."""
    import torch

    from kaggle_cryoet.models.store import UNetModel, save_unet
    from kaggle_cryoet.models.unet3d import UNetSettings, build_unet

    torch.manual_seed(5)
    settings = UNetSettings(channels=(4, 6))
    folder = tmp_path / "small-model"
    thresholds = (0.13, 0.14, 0.15, 0.16, 0.17, 0.18)
    save_unet(
        folder,
        UNetModel(network=build_unet(settings), settings=settings, thresholds=thresholds, provenance={"seed": 5}),
    )
    return folder


@pytest.fixture
def labelled_runs(tmp_path: Path) -> Path:
    """Three simulated runs of three different edges in the competition's layout."""
    from kaggle_cryoet.simulation.dataset import simulate

    counts = {"apo-ferritin": 4, "ribosome": 2, "thyroglobulin": 2, "virus-like-particle": 1}
    simulate(tmp_path / "train", runs=3, shape_zyx=(40, 72, 88), seed=11, counts=counts)
    return tmp_path / "train"
