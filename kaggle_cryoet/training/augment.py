"""Changes of contrast, sharpness and noise on whole batches; they move nothing, so that targets stay as they are.

Flips, which move things, are drawn together with the crop (`crops`), where the targets are flipped alike. The tilt axis
stays along y, and with it the missing wedge.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kaggle_cryoet.errors import InputError

SMOOTH_NOISE_GAIN = (8 / 3) ** 1.5
"""Brings white noise back to its strength after `binomial_filter`, which leaves 3/8 of its variance along each axis."""


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Ranges of what is drawn for each crop."""

    log_scale: float = 0.25
    """Contrast is multiplied by exp(u), u uniform between minus and plus this."""
    offset: float = 0.25
    """Largest shift of the mean, in units of the background's noise."""
    sharpening: float = 0.6
    """Largest share of the fine structure (above a 3x3x3 binomial filter) that is added or taken away."""
    noise: float = 0.4
    """Largest standard deviation of added noise, white or smoothed."""
    least_gamma: float = 0.85
    """Values are compressed or expanded as sign(x) |x|^gamma, gamma between this and its inverse."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.log_scale, self.offset, self.sharpening, self.noise) < 0 or not 0 < self.least_gamma <= 1:
            raise InputError(f"ranges of augmentation must not be negative, gamma between 0 and 1, got {self}")


def binomial_filter(x: Tensor) -> Tensor:
    """`(batch, 1, z, y, x)` smoothed by (1, 2, 1) / 4 along each axis, the borders repeated."""
    for axis in (2, 3, 4):
        last = x.shape[axis] - 1
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], dim=axis)
        after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], dim=axis)
        x = torch.lerp(x, before.add_(after).mul_(0.5), 0.5)
    return x


def augment(x: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """`(batch, 1, z, y, x)` normalised crops, each changed in its own way; half of them get smooth noise."""

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(len(x), 1, 1, 1, 1, generator=generator)
        return (low + (high - low) * draw).to(x.device)

    sharpening = uniform(-settings.sharpening, settings.sharpening)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    for item in torch.nonzero(torch.rand(len(x), generator=generator) < 0.5).flatten().tolist():
        noise[item] = SMOOTH_NOISE_GAIN * binomial_filter(noise[item : item + 1])[0]
    gamma = torch.exp(uniform(-1, 1) * math.log(settings.least_gamma))
    scale = torch.exp(uniform(-settings.log_scale, settings.log_scale))
    x = torch.lerp(binomial_filter(x), x, 1 + sharpening).addcmul_(noise, uniform(0, settings.noise))
    curved = x.abs().clamp_(min=1e-6).pow_(gamma).copysign_(x)
    return curved.mul_(scale).add_(uniform(-settings.offset, settings.offset))
