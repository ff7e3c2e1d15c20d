"""The detector as it is built: its classes, its channels, and nothing of it goes online."""

import os
import subprocess
import sys

import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo, offline_ultralytics
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES


def test_a_detector_has_a_class_for_each_particle_in_their_order() -> None:
    network = build_yolo(YoloSettings())
    assert tuple(network.names.values()) == PARTICLE_NAMES  # type: ignore[operator, union-attr]
    with torch.inference_mode():
        boxes, raw = network.eval()(torch.zeros(2, 3, 64, 96))
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    assert boxes.shape == (2, 4 + len(PARTICLES), anchors)
    assert raw["scores"].shape == (2, len(PARTICLES), anchors)


def test_the_same_seed_builds_the_same_detector_and_a_larger_size_a_larger_one() -> None:
    torch.manual_seed(3)
    first = build_yolo(YoloSettings())
    torch.manual_seed(3)
    second = build_yolo(YoloSettings())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    count = [sum(p.numel() for p in build_yolo(YoloSettings(size=size)).parameters()) for size in "ns"]
    assert 2_500_000 < count[0] < 2_700_000 < 9_000_000 < count[1]


def test_a_missing_description_of_the_network_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    offline_ultralytics()
    monkeypatch.setattr("ultralytics.utils.ROOT", tmp_path)
    with pytest.raises(InputError, match=r"yolo11\.yaml: is missing"):
        build_yolo(YoloSettings())


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "xl"},
        {"neighbour_voxels": -1},
        {"neighbour_voxels": 1.5},
        {"darkest": 3.0},
        {"brightest": float("nan")},
    ],
)
def test_settings_out_of_range_are_an_input_error(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        YoloSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_detector_is_built_without_network_without_a_word_and_without_a_trace(tmp_path: os.PathLike[str]) -> None:
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('reached for the network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo\n"
        "import sys; assert 'torch' not in sys.modules\n"
        "build_yolo(YoloSettings())\n"
        "import os; print(os.environ['YOLO_OFFLINE'], os.path.isdir(os.environ['YOLO_CONFIG_DIR']))\n"
        "print(os.environ['YOLO_CONFIG_DIR'])\n"
    )
    free = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=free | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )
    said, folder = done.stdout.splitlines()
    assert said == "true True"
    assert not os.path.exists(folder)  # noqa: PTH110
    assert done.stderr == ""
