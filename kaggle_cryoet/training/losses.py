"""Losses between the network's logits and the targets: four kinds, one form."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.offline_monai import offline_monai
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.training.targets import TargetSettings

LossName = Literal["cross-entropy", "tversky", "focal", "squares"]


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Which loss, and what shapes it."""

    name: LossName = "cross-entropy"
    """`cross-entropy` against soft targets; MONAI's `tversky` and `focal`; `squares` of errors of the scores."""
    particle_weight: float = 500.0
    """So many voxels of background weigh as much as one particle, in all but the Tversky loss."""
    alpha: float = 0.3
    """Tversky: weight of false positives; that of false negatives is 1 - alpha. 0.5 is the Dice loss."""
    cross_entropy: float = 0.0
    """Tversky: how much of the cross-entropy is added."""
    gamma: float = 2.0
    """Focal: power of the error by which sure voxels lose weight."""

    def __post_init__(self) -> None:
        """Check the name and the ranges."""
        if self.name not in get_args(LossName):
            raise InputError(f"unknown loss {self.name!r}; expected one of {', '.join(get_args(LossName))}")
        if self.particle_weight <= 0 or not 0 <= self.alpha <= 1 or min(self.cross_entropy, self.gamma) < 0:
            raise InputError(f"a loss needs a positive weight, alpha between 0 and 1, no negative share, got {self}")


def peak_volume_voxels(settings: TargetSettings, voxel_angstrom: float, stride: int) -> Tensor:
    """`(class,)` sum of one target of each class over the output grid."""
    return torch.tensor([settings.volume_voxels(label, voxel_angstrom * stride) for label in range(len(PARTICLES))])


def class_weights(
    settings: TargetSettings, voxel_angstrom: float, stride: int, *, particle_weight: float = 500.0
) -> Tensor:
    """`(class,)` weights of positive voxels: a particle weighs as much as `particle_weight` voxels of background.

    Types that weigh twice in the competition's score weigh 1.5 times here, the one that is not scored 0.75 times.
    """
    emphasis = torch.tensor([0.5 + 0.5 * max(particle.weight, 0.5) for particle in PARTICLES])
    return emphasis * particle_weight / peak_volume_voxels(settings, voxel_angstrom, stride)


def with_background(target: Tensor) -> Tensor:
    """`(batch, 1 + class, z, y, x)` shares of each voxel of `(batch, class, z, y, x)` targets in 0..1.

    What no class claims is background; where more is claimed than there is, the claims are cut alike.
    """
    claimed = target.sum(dim=1, keepdim=True)
    return torch.cat([(1.0 - claimed).clamp(min=0.0), target / claimed.clamp(min=1.0)], dim=1)


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


class Loss(nn.Module):
    """The loss that settings name, of `(batch, 1 + class, z, y, x)` logits and `(batch, class, z, y, x)` targets."""

    weight: Tensor

    def __init__(self, settings: LossSettings, targets: TargetSettings, voxel_angstrom: float, stride: int) -> None:
        offline_monai()
        from monai.losses.focal_loss import FocalLoss
        from monai.losses.tversky import TverskyLoss

        super().__init__()
        self.settings = settings
        weight = class_weights(targets, voxel_angstrom, stride, particle_weight=settings.particle_weight)
        self.register_buffer("weight", weight, persistent=False)
        beta = 1 - settings.alpha
        self.tversky = TverskyLoss(softmax=True, alpha=settings.alpha, beta=beta, batch=True, soft_label=True)
        self.focal = FocalLoss(use_softmax=True, gamma=settings.gamma, reduction="none")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """One number, in float32."""
        chosen, logits = self.settings, logits.float()
        if chosen.name == "cross-entropy":
            return peak_cross_entropy(logits, target, self.weight)
        if chosen.name == "tversky":
            loss: Tensor = self.tversky(logits, with_background(target))
            if chosen.cross_entropy:
                loss = loss + chosen.cross_entropy * peak_cross_entropy(logits, target, self.weight)
            return loss
        if chosen.name == "focal":
            weight = functional.pad(self.weight, (1, 0), value=1.0)[:, None, None, None]
            focal: Tensor = self.focal(logits, with_background(target)) * weight
            return focal.sum(dim=1).mean()
        squared = (logits.softmax(dim=1)[:, 1:] - target).square()
        return (squared * torch.lerp(torch.ones_like(target), self.weight[:, None, None, None], target)).sum(1).mean()
