"""Changes of contrast, sharpness and noise on whole batches; they move nothing, so that targets stay as they are.

Flips, which move things, are drawn together with the crop (`crops`), where the targets are flipped alike. The tilt axis stays
along y, and with it the missing wedge.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


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
    """Dark values are compressed or expanded as sign(x) |x|^gamma, gamma between this and its inverse."""


def binomial_filter(x: Tensor) -> Tensor:
    """`(batch, 1, z, y, x)` smoothed by (1, 2, 1) / 4 along each axis."""
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        padding = [0, 0, 0]
        padding[axis] = 1
        x = functional.conv3d(x, kernel.reshape(shape), padding=tuple(padding))
    return x


def augment(x: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """`(batch, 1, z, y, x)` normalised crops, each changed in its own way."""

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(len(x), 1, 1, 1, 1, generator=generator)
        return (low + (high - low) * draw).to(x.device)

    noise = torch.randn(x.shape, generator=generator).to(x.device)
    smooth = (uniform(0, 1) < 0.5).to(x.dtype)
    noise = noise * (1 - smooth) + smooth * 3.0 * binomial_filter(noise)  # the filter leaves about a third
    x = x + (x - binomial_filter(x)) * uniform(-settings.sharpening, settings.sharpening)
    x = x + noise * uniform(0, settings.noise)
    gamma = torch.exp(uniform(-1, 1) * -torch.log(torch.tensor(settings.least_gamma)))
    x = x.sign() * x.abs().clamp(min=1e-6) ** gamma
    return x * torch.exp(uniform(-settings.log_scale, settings.log_scale)) + uniform(-settings.offset, settings.offset)
