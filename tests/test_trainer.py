"""How a training computes: in half precision where its gradients are right."""

import pytest
import torch
from torch import nn

from kaggle_cryoet.models.unet3d import HALF, HOST, UNetSettings, build_unet
from kaggle_cryoet.training import trainer
from kaggle_cryoet.training.trainer import UNWRITTEN_DEPTH, training_precision

CPU = [torch.device("cpu")]


def leave_waste() -> None:
    """Fill memory that is given back with what is no number."""
    waste = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for size in (1_000, 30_000, 100_000, 1_000_000)]
    del waste


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_gradients_in_bfloat16_are_right_at_the_depths_it_is_used_for(depth: int) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv3d(32, 32, 3, padding=1, bias=False).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 32, depth, 6, 6).to(memory_format=torch.channels_last_3d)
    towards = torch.randn(2, 32, depth, 6, 6)
    gradients = []
    for enabled in (False, True):
        convolution.zero_grad()
        leave_waste()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = convolution(x)
        torch.autograd.backward((y.float() * towards).sum())
        assert convolution.weight.grad is not None
        gradients.append(convolution.weight.grad.clone())
    assert torch.linalg.vector_norm(gradients[1] - gradients[0]) < 0.01 * torch.linalg.vector_norm(gradients[0])


@pytest.mark.parametrize("settings", [HALF, HOST, UNetSettings(channels=(4, 6))], ids=["half", "host", "small"])
def test_no_level_in_half_precision_has_the_depth_whose_gradients_are_wrong(
    settings: UNetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "cpu_has_bfloat16", lambda: True)
    network = build_unet(settings).eval()
    depths: set[int] = set()
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d) and layer.kernel_size == (3, 3, 3):
            layer.register_forward_hook(lambda layer, inputs, output: depths.add(output.shape[2]))
    multiple: int = network.multiple  # type: ignore[assignment]
    found = {}
    for sections in (1, 2, 3, 4, 6):
        depths.clear()
        with torch.inference_mode():
            network(torch.zeros(1, 1, sections * multiple, 2 * multiple, 2 * multiple))
        found[sections] = training_precision(CPU, network, sections * multiple)
        assert (found[sections] == "bf16-mixed") == (UNWRITTEN_DEPTH not in depths), sections
    assert set(found.values()) == {"32-true", "bf16-mixed"}


def test_a_cpu_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "cpu_has_bfloat16", lambda: False)
    assert training_precision(CPU, build_unet(HALF), crop_depth=96) == "32-true"
