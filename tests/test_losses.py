import itertools
import math

import numpy as np
import pytest
import torch

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.losses import (
    Loss,
    LossSettings,
    class_weights,
    peak_cross_entropy,
    peak_volume_voxels,
    with_background,
)
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


def example(seed=2):
    """Logits, and targets in which some voxels are claimed more than once."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 7, 3, 4, 5, generator=generator) * 2
    return logits, torch.rand(2, 6, 3, 4, 5, generator=generator) ** 4


def loss_of(name, **settings):
    return Loss(LossSettings(name=name, **settings), TargetSettings(), 10.0, 2)


def test_shares_of_a_voxel_add_up_to_one():
    _, target = example()
    share = with_background(target)
    assert share.shape == (2, 7, 3, 4, 5)
    torch.testing.assert_close(share.sum(dim=1), torch.ones(2, 3, 4, 5))
    free = target.sum(dim=1) < 1
    torch.testing.assert_close(share[:, 1:].movedim(1, -1)[free], target.movedim(1, -1)[free])


@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_the_tversky_loss_weighs_false_positives_and_negatives_as_its_formula_says(alpha):
    logits, _ = example()
    channel = torch.randint(7, (2, 3, 4, 5), generator=torch.Generator().manual_seed(3))
    target = torch.nn.functional.one_hot(channel, 7).movedim(-1, 1)[:, 1:].float()
    probability = logits.softmax(dim=1).double().numpy()
    losses = []
    for label in range(7):
        true = (channel == label).numpy()
        hit = probability[:, label][true].sum()
        false_positive, false_negative = probability[:, label][~true].sum(), (1 - probability[:, label][true]).sum()
        losses.append(1 - hit / (hit + alpha * false_positive + (1 - alpha) * false_negative))
    assert float(loss_of("tversky", alpha=alpha)(logits, target)) == pytest.approx(np.mean(losses), rel=1e-4)


def test_cross_entropy_can_be_added_to_the_tversky_loss():
    logits, target = example()
    alone, both = loss_of("tversky"), loss_of("tversky", cross_entropy=0.25)
    expected = alone(logits, target) + 0.25 * loss_of("cross-entropy")(logits, target)
    torch.testing.assert_close(both(logits, target), expected)


def test_the_focal_loss_without_focus_is_the_cross_entropy_and_with_it_forgives_sure_voxels():
    logits, target = example()
    torch.testing.assert_close(loss_of("focal", gamma=0.0)(logits, target), loss_of("cross-entropy")(logits, target))
    probability = logits.softmax(dim=1)
    weight = torch.cat([torch.ones(1), class_weights(TargetSettings(), 10.0, 2)])[None, :, None, None, None]
    expected = -(with_background(target) * weight * (1 - probability) ** 2 * probability.log()).sum(dim=1).mean()
    torch.testing.assert_close(loss_of("focal")(logits, target), expected)


def test_squared_errors_are_weighted_by_what_the_target_claims():
    logits, target = example()
    probability, weight = logits.softmax(dim=1).numpy(), class_weights(TargetSettings(), 10.0, 2).numpy()
    total = 0.0
    for label in range(6):
        claim = target[:, label].numpy()
        total += ((probability[:, 1 + label] - claim) ** 2 * (1 + (weight[label] - 1) * claim)).mean()
    assert float(loss_of("squares")(logits, target)) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", ["cross-entropy", "tversky", "focal", "squares"])
def test_every_loss_falls_when_the_network_comes_nearer_to_the_target_and_adds_nothing_to_a_checkpoint(name):
    channel = torch.randint(7, (2, 3, 4, 5), generator=torch.Generator().manual_seed(3))
    every = torch.nn.functional.one_hot(channel, 7).movedim(-1, 1).float()
    loss = loss_of(name)
    values = [float(loss((strength * every).bfloat16(), every[:, 1:])) for strength in (-1.0, 0.0, 2.0, 6.0)]
    assert values == sorted(values, reverse=True)
    assert loss(every.bfloat16(), every[:, 1:]).dtype == torch.float32
    assert loss.state_dict() == {}


@pytest.mark.parametrize("settings", [{"name": "hinge"}, {"alpha": 1.5}, {"gamma": -1.0}, {"particle_weight": 0.0}])
def test_an_impossible_loss_is_an_input_error(settings):
    with pytest.raises(InputError):
        LossSettings(**settings)
