"""A GPU finds what the CPU finds, and trains: `pytest --gpu tests/test_gpu.py`, where there is one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kaggle_cryoet import predict
from kaggle_cryoet.models.store import load_unet, load_yolo
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, UNET_FOLDER, YOLO_FOLDER
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.data import DataSettings
from kaggle_cryoet.training.slice_dataset import SliceSettings
from kaggle_cryoet.training.stream import StreamSettings
from kaggle_cryoet.training.unet import TrainingLength, train_unet
from kaggle_cryoet.training.yolo import train_yolo
from kaggle_cryoet.training.yolo_recipes import PRESETS
from kaggle_cryoet.training.yolo_trainer import SliceTrainer

DETECTOR: dict[str, Any] = {
    "recipe": replace(PRESETS["ours"], batch_size=4, epochs=2),
    "slices": SliceSettings(every=8),
    "device": "cuda",
    "progress": False,
}


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--gpu"):
        pytest.skip("needs a GPU; ask for it with --gpu")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU, and there is none")


@pytest.mark.parametrize(("branch", "own"), [("unet", "never"), ("unet", "always"), ("hybrid", "never")])
def test_a_gpu_finds_what_the_cpu_finds(labelled_runs: Path, tmp_path: Path, branch: str, own: str) -> None:
    found = {
        device: predict(
            labelled_runs,
            output=tmp_path / f"{device}.csv",
            settings=PickSettings(branch=branch, own_statistics=own),
            device=device,
        )
        for device in ("cpu", "cuda")
    }
    for one, other in (("cpu", "cuda"), ("cuda", "cpu")):
        near = 0
        for _, pick in found[one].iterrows():
            same = found[other][
                (found[other].experiment == pick.experiment) & (found[other].particle_type == pick.particle_type)
            ]
            distance = np.linalg.norm(same[["x", "y", "z"]] - pick[["x", "y", "z"]].to_numpy(dtype=float), axis=1)
            near += bool(len(distance)) and bool(distance.min() < 10)
        assert near >= 0.9 * len(found[one]) > 0


def test_a_gpu_trains_on_a_stream_and_goes_on(labelled_runs: Path, tmp_path: Path) -> None:
    options = {
        "start_from": SHIPPED_WEIGHTS / UNET_FOLDER,
        "crops": CropSettings(shape_zyx=(32, 32, 32)),
        "data": DataSettings(stream=StreamSettings(shape_zyx=(32, 64, 64), volumes=2, fresh=1, processes=2)),
        "length": TrainingLength(epochs=2, crops_per_epoch=8, batch_size=4, validate_every=1),
        "device": "cuda",
        "progress": False,
    }
    folder = train_unet([labelled_runs], tmp_path / "run", **options)
    model = load_unet(folder)
    assert model.provenance["epochs"] == 2
    before = load_unet(SHIPPED_WEIGHTS / UNET_FOLDER).network.state_dict()
    for name, value in model.network.state_dict().items():
        assert torch.isfinite(value).all(), name
    assert any(not torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert train_unet([labelled_runs], tmp_path / "run", resume=True, **{**options, "start_from": None}) == folder


def test_a_gpu_trains_a_detector(labelled_runs: Path, tmp_path: Path) -> None:
    start = SHIPPED_WEIGHTS / YOLO_FOLDER
    folder = train_yolo([labelled_runs], tmp_path / "run", start_from=start, **DETECTOR)
    before = load_yolo(start).network.state_dict()
    after = load_yolo(folder).network.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_a_gpu_goes_on_with_a_detector_and_the_scale_of_its_loss(
    labelled_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, set_up = SliceTrainer.save_model, SliceTrainer._setup_train

    def save_and_stop(trainer: SliceTrainer) -> None:
        save(trainer)
        raise KeyboardInterrupt

    def set_up_and_tell(trainer: SliceTrainer) -> None:
        set_up(trainer)
        begun_with.append(trainer.scaler.state_dict())

    begun_with: list[dict[str, float]] = []
    monkeypatch.setattr(SliceTrainer, "_setup_train", set_up_and_tell)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(SliceTrainer, "save_model", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_yolo([labelled_runs], tmp_path / "run", **DETECTOR)
    checkpoint = tmp_path / "run" / "training" / "weights" / "last.pt"
    kept = torch.load(checkpoint, weights_only=False)["scaler"]
    folder = train_yolo([labelled_runs], tmp_path / "run", resume=True, **DETECTOR)
    assert begun_with[0] != kept
    assert begun_with[1] == kept
    assert all(torch.isfinite(value).all() for value in load_yolo(folder).network.state_dict().values())
