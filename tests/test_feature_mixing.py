"""Statistics of features that crops of a batch lend each other."""

import numpy as np
import pytest
import torch
from torch import nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.unet3d import HalfUNet
from kaggle_cryoet.training.feature_mixing import MOST_GAIN, FeatureMixing, mix_statistics
from kaggle_cryoet.training.module import UNetTrainingSettings


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def features():
    """Three crops of four channels, each of its own mean and spread."""
    rng = np.random.default_rng(1)
    mean, spread = rng.uniform(-2, 2, (3, 4)), rng.uniform(0.8, 2, (3, 4))
    noise = rng.normal(size=(3, 4, 6, 7, 8))
    return torch.tensor(mean[..., None, None, None] + spread[..., None, None, None] * noise, dtype=torch.float32)


def statistics(x):
    values = x.detach().numpy()
    return values.mean((2, 3, 4)), values.std((2, 3, 4))


def test_means_and_spreads_go_one_part_of_the_way_to_those_of_one_other_crop(features):
    before, after = statistics(features), statistics(mix_statistics(features, 1.0, generator()))
    steps = set()
    for crop in range(3):
        ways = {}
        for other in {0, 1, 2} - {crop}:
            way = [(a[crop] - b[crop]) / (b[other] - b[crop]) for a, b in zip(after, before, strict=True)]
            if np.ptp(way) < 1e-3:
                ways[other] = np.mean(way)
        assert len(ways) == 1
        ((other, way),) = ways.items()
        assert 0 < way < 1
        steps.add((other - crop) % 3)
    assert len(steps) == 1


def test_what_a_channel_shows_stays_but_for_scale_and_offset(features):
    mixed = mix_statistics(features, 1.0, generator())
    for one, other in zip(features.flatten(0, 1), mixed.flatten(0, 1), strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] == pytest.approx(1, abs=1e-6)


def test_a_share_of_the_crops_is_changed(features):
    many = features.repeat(200, 1, 1, 1, 1) * torch.linspace(1, 2, 600)[:, None, None, None, None]
    changed = (mix_statistics(many, 0.3, generator()) != many).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.06)  # three standard deviations
    assert torch.equal(mix_statistics(features, 0.0, generator()), features)


def test_a_crop_alone_stays_as_it_is(features):
    torch.testing.assert_close(mix_statistics(features[:1], 1.0, generator()), features[:1])


def test_channels_that_hardly_vary_are_not_blown_up(features):
    features[0] *= 1e-4
    features[1] = 0.5
    mixed = mix_statistics(features, 1.0, generator())
    assert torch.isfinite(mixed).all()
    assert (mixed[0].std((1, 2, 3)) <= MOST_GAIN * features[0].std((1, 2, 3)) + 1e-6).all()
    assert mixed[1].std((1, 2, 3)).max() == 0


def test_the_gradient_takes_statistics_for_constants(features):
    features.requires_grad_()
    mix_statistics(features, 1.0, generator()).sum().backward()
    gain = statistics(mix_statistics(features, 1.0, generator()))[1] / statistics(features)[1]
    expected = np.broadcast_to(gain[..., None, None, None], features.shape)
    np.testing.assert_allclose(features.grad, expected, rtol=1e-4)


def test_half_precision_stays_half_precision(features):
    mixed = mix_statistics(features.bfloat16(), 1.0, generator())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), mix_statistics(features, 1.0, generator()), atol=0.1, rtol=0.05)


def test_encoders_answer_otherwise_in_training_alone_and_by_the_generator_of_the_step():
    torch.manual_seed(2)
    network = HalfUNet((4, 6, 8))
    crops = torch.randn(3, 1, 16, 16, 16) * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None, None]
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm3d):
            norm.momentum = 0.0
    plain = {mode: network.train(mode)(crops).detach() for mode in (True, False)}
    mixing = FeatureMixing(network.encode[:2], 1.0)
    assert torch.equal(network.train()(crops), plain[True])
    found = []
    for seed in (1, 1, 2):
        mixing.generator = generator(seed)
        found.append(network(crops).detach())
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], plain[True], atol=1e-3)
    assert not torch.allclose(found[0], found[2], atol=1e-3)
    assert torch.equal(network.eval()(crops), plain[False])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(InputError, match="from 0 to 1"):
        UNetTrainingSettings(feature_mixing=share)
