"""A GPU counts only if it computes."""

import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking import devices
from kaggle_cryoet.picking.devices import choose_devices, probe


def test_the_cpu_passes_the_probe() -> None:
    assert probe(torch.device("cpu")) is None


def test_a_gpu_that_is_absent_fails_the_probe_with_a_reason() -> None:
    assert probe(torch.device("cuda", 97))


def test_the_cpu_is_taken_when_asked_for() -> None:
    assert choose_devices("cpu") == [torch.device("cpu")]


def test_a_gpu_that_torch_cannot_drive_is_left_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "probe", lambda device: "no kernel image is available for execution on the device")
    assert choose_devices("auto") == [torch.device("cpu")]
    assert "no kernel image" in caplog.text
    with pytest.raises(InputError, match="1 present, none usable"):
        choose_devices("cuda")


def test_only_the_gpus_that_work_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "probe", lambda device: "broken" if device.index == 1 else None)
    assert choose_devices("auto") == [torch.device("cuda", 0), torch.device("cuda", 2)]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        choose_devices("tpu")
