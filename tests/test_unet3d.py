import itertools

import numpy as np
import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.unet3d import (
    HALF,
    HOST,
    PRESET_SETTINGS,
    ResidualBlock,
    UNetSettings,
    build_unet,
    space_to_depth,
)

SMALL = {
    "half": UNetSettings(channels=(4, 6, 8)),
    "host": UNetSettings(preset="host", channels=(4, 6, 8, 8)),
}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_space_to_depth_gathers_each_block_of_eight_voxels_z_slowest():
    x = torch.arange(2 * 4 * 6 * 10, dtype=torch.float32).reshape(2, 1, 4, 6, 10)
    expected = np.empty((2, 8, 2, 3, 5), dtype=np.float32)
    for item, (z, y, x_) in itertools.product(range(2), itertools.product(range(2), range(3), range(5))):
        for channel, (dz, dy, dx) in enumerate(itertools.product(range(2), repeat=3)):
            expected[item, channel, z, y, x_] = x[item, 0, 2 * z + dz, 2 * y + dy, 2 * x_ + dx]
    np.testing.assert_array_equal(space_to_depth(x).numpy(), expected)


@pytest.mark.parametrize("preset", ["half", "host"])
def test_logits_of_seven_channels_come_at_the_resolution_that_the_stride_says(preset):
    network = build_unet(SMALL[preset]).eval()
    assert network.stride == {"half": 2, "host": 1}[preset]
    shape = tuple(network.multiple * factor for factor in (2, 3, 5))
    with torch.inference_mode():
        logits = network(torch.randn(2, 1, *shape))
    assert logits.shape == (2, 7, *(edge // network.stride for edge in shape))


@pytest.mark.parametrize("preset", ["half", "host"])
def test_edges_must_be_multiples_of_no_less_than_the_multiple(preset):
    network = build_unet(SMALL[preset]).eval()
    half = network.multiple // 2
    with pytest.raises(RuntimeError), torch.inference_mode():
        network(torch.randn(1, 1, 2 * network.multiple, 5 * half, 3 * network.multiple))


@pytest.mark.parametrize(("preset", "million"), [("half", 2.9), ("host", 1.12)])
def test_the_presets_are_the_networks_that_they_are_said_to_be(preset, million):
    assert parameters(build_unet(PRESET_SETTINGS[preset])) == pytest.approx(million * 1e6, rel=0.1)


def test_the_host_is_the_papers_network():
    assert PRESET_SETTINGS == {"half": HALF, "host": HOST}
    assert HOST.channels == (48, 64, 80, 80)
    strides = [m.stride[0] for m in build_unet(HOST).modules() if isinstance(m, torch.nn.Conv3d) and m.stride[0] > 1]
    assert set(strides) == {2}


def test_weights_depend_on_torchs_generator_alone():
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in build_unet(SMALL["half"]).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_scores_inside_do_not_depend_on_the_size_of_the_window():
    network = build_unet(UNetSettings(channels=(3, 5))).eval()
    x = torch.randn(1, 1, 64, 68, 72)
    with torch.inference_mode():
        whole, part = network(x), network(x[..., 4:60, 4:60, 4:68])
    # on either side a voxel of the output sees 11 others: 1 stem, 2 fine, 2 x 2 coarse and 2 for the block, 2 fine
    torch.testing.assert_close(part[..., 11:17, 11:17, 11:21], whole[..., 13:19, 13:19, 13:23], rtol=1e-4, atol=1e-5)


def test_a_residual_block_whose_convolutions_are_zero_lets_its_input_through():
    block = ResidualBlock(3, 3).eval()
    torch.nn.init.zeros_(block.second.weight)
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize("settings", [{"preset": "paper"}, {"channels": (8,)}, {"channels": (8, 0)}])
def test_impossible_networks_are_an_input_error(settings):
    with pytest.raises(InputError):
        UNetSettings(**settings)
