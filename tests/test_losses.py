import itertools
import math

import numpy as np
import pytest
import torch

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.losses import class_weights, peak_cross_entropy, peak_volume_voxels
from kaggle_cryoet.training.targets import TargetSettings, draw_targets

WEIGHT = torch.tensor([3.0, 5.0, 7.0, 11.0, 13.0, 17.0])


def by_hand(logits, target, weight):
    """Cross-entropy voxel by voxel, in plain Python."""
    batch, _, *shape = logits.shape
    total = 0.0
    for item, place in itertools.product(range(batch), itertools.product(*map(range, shape))):
        logit = [float(logits[(item, channel, *place)]) for channel in range(7)]
        normaliser = math.log(sum(math.exp(value) for value in logit))
        log_probability = [value - normaliser for value in logit]
        claim = [float(target[(item, label, *place)]) for label in range(6)]
        claimed = sum(claim)
        for label in range(6):
            total -= weight[label] * claim[label] / max(claimed, 1.0) * log_probability[1 + label]
        total -= max(1.0 - claimed, 0.0) * log_probability[0]
    return total / (batch * math.prod(shape))


def test_the_loss_is_a_cross_entropy_computed_by_hand():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 3, 4, 5, generator=generator) * 2
    target = torch.rand(2, 6, 3, 4, 5, generator=generator) ** 4  # some voxels are claimed more than once
    claimed = target.sum(dim=1)
    assert (claimed > 1).any()
    assert (claimed < 1).any()
    loss = peak_cross_entropy(logits, target, WEIGHT)
    assert float(loss) == pytest.approx(by_hand(logits, target, WEIGHT.tolist()), rel=1e-5)


def test_with_whole_claims_the_loss_is_torchs_weighted_cross_entropy():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 7, 3, 4, 5, generator=generator)
    channel = torch.randint(7, (2, 3, 4, 5), generator=generator)
    target = torch.nn.functional.one_hot(channel, 7).movedim(-1, 1)[:, 1:].float()
    weight = torch.cat([torch.ones(1), WEIGHT])
    expected = torch.nn.functional.cross_entropy(logits, channel, weight, reduction="none").mean()
    torch.testing.assert_close(peak_cross_entropy(logits, target, WEIGHT), expected)


def test_logits_of_half_precision_are_summed_in_single():
    logits, target = torch.zeros(1, 7, 8, 8, 8, dtype=torch.bfloat16), torch.zeros(1, 6, 8, 8, 8)
    loss = peak_cross_entropy(logits, target, WEIGHT)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log(7), rel=1e-6)


def test_the_loss_is_least_where_the_network_says_what_the_target_says():
    target = torch.zeros(1, 6, 1, 1, 1)
    target[0, 2] = 0.6
    logits = torch.zeros(1, 7, 1, 1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")
    ones = torch.ones(6)
    optimiser.step(
        lambda: (optimiser.zero_grad(), (loss := peak_cross_entropy(logits, target, ones)).backward(), loss)[2]
    )
    probability = logits.detach().softmax(1).flatten()
    np.testing.assert_allclose(probability, [0.4, 0, 0, 0.6, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_volume_of_a_peak_is_the_sum_of_a_drawn_one(stride):
    settings = TargetSettings()
    volume = peak_volume_voxels(settings, 10.0, stride)
    for label in range(6):
        picks = Picks(position_zyx_angstrom=np.array([[303.0, 312.0, 327.0]]), label=np.array([label]))
        target = draw_targets(picks, shape_zyx=(64, 66, 68), stride=stride, voxel_angstrom=10.0)
        assert float(volume[label]) == pytest.approx(float(target.sum(dtype=np.float64)), rel=0.01)


def test_each_particle_weighs_as_many_voxels_as_asked_times_its_emphasis():
    settings = TargetSettings()
    weight = class_weights(settings, 10.0, 2, particle_weight=200.0)
    per_particle = weight * peak_volume_voxels(settings, 10.0, 2)
    emphasis = {0.0: 0.75, 1.0: 1.0, 2.0: 1.5}
    expected = [200.0 * emphasis[particle.weight] for particle in PARTICLES]
    np.testing.assert_allclose(per_particle, expected, rtol=1e-6)
