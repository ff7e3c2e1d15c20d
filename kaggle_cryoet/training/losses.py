"""The loss of training: cross-entropy against peaks, in which every particle counts about the same."""

import torch
from torch import Tensor
from torch.nn import functional

from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.training.targets import TargetSettings


def peak_volume_voxels(settings: TargetSettings, voxel_angstrom: float, stride: int) -> Tensor:
    """`(class,)` sum of one peak of each class over the output grid."""
    sigma = torch.tensor([settings.sigma_angstrom(label) for label in range(len(PARTICLES))])
    volume: Tensor = (2 * torch.pi) ** 1.5 * (sigma / (voxel_angstrom * stride)) ** 3
    return volume


def class_weights(
    settings: TargetSettings, voxel_angstrom: float, stride: int, *, particle_weight: float = 500.0
) -> Tensor:
    """`(class,)` weights of positive voxels: a particle weighs as much as `particle_weight` voxels of background.

    Types that weigh twice in the competition's score weigh 1.5 times here, the one that is not scored 0.75 times.
    """
    emphasis = torch.tensor([0.5 + 0.5 * max(particle.weight, 0.5) for particle in PARTICLES])
    return emphasis * particle_weight / peak_volume_voxels(settings, voxel_angstrom, stride)


def peak_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy between `(batch, 1 + class, z, y, x)` logits and `(batch, class, z, y, x)` targets in 0..1.

    The share of a voxel that no class claims is background, of weight 1; `weight` is `(class,)`.
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    claimed = target.sum(dim=1)
    share = target / claimed.clamp(min=1.0)[:, None]
    background = (1.0 - claimed).clamp(min=0.0)
    positive = (share * log_probability[:, 1:] * weight[None, :, None, None, None]).sum(dim=1)
    return -(positive + background * log_probability[:, 0]).mean()
