"""Changes of contrast, spectrum and noise on whole batches; they move nothing, so that targets stay as they are.

Flips, rotation and scale, which move things, are drawn together with the crop (`crops`), and targets with them.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kaggle_cryoet.errors import InputError

SMOOTH_NOISE_GAIN = (8 / 3) ** 1.5
"""Brings white noise back to its strength after `binomial_filter`, which leaves 3/8 of its variance along each axis."""

SPREAD_OF_EVERY = 23
"""One in so many voxels tells the spread of a crop; a prime, so that they lie anywhere in the rows."""


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Ranges of what is drawn for each crop."""

    log_scale: float = 0.3
    """Contrast is multiplied by exp(u), u uniform between minus and plus this."""
    offset: float = 0.25
    """Largest shift of the mean, in units of the background's noise."""
    sharpening: float = 0.8
    """Largest share of the fine structure (above a 3x3x3 binomial filter) that is added or taken away."""
    middle: float = 0.3
    """Largest share of the structure between that filter and one of twice its width that is added or taken away: with
    `sharpening` a smooth gain over the frequencies."""
    noise: float = 0.8
    """Largest standard deviation of added noise, white or smoothed."""
    least_gamma: float = 0.8
    """Values are compressed or expanded as sign(x) |x|^gamma, gamma between this and its inverse."""
    scrambling: float = 0.5
    """Share of the crops of which noise with their own spectrum takes the place of a part, see `scramble`."""
    least_scrambling: float = 0.1
    """Least ratio of that noise to what is left of the crop, at either end of the spectrum."""
    most_scrambling: float = 2.0
    """Largest ratio."""
    mixup: float = 0.0
    """Share of the crops that are blended with another one of their batch, which gets less than half; targets alike."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        lengths = (self.log_scale, self.offset, self.sharpening, self.middle, self.noise)
        shares = (self.mixup, self.scrambling)
        ratios = (self.least_scrambling, self.most_scrambling)
        if min(lengths) < 0 or not 0 < self.least_gamma <= 1 or not all(0 <= share <= 1 for share in shares):
            raise InputError(f"ranges of augmentation must not be negative, shares between 0 and 1, got {self}")
        if not 0 < ratios[0] <= ratios[1]:
            raise InputError(f"ratios of noise must be positive, the least first, got {self}")


def binomial_filter(x: Tensor, step: int = 1) -> Tensor:
    """`(batch, 1, z, y, x)` smoothed by (1, 2, 1) / 4 along each axis, the three `step` voxels apart.

    The borders are repeated.
    """
    for axis in (2, 3, 4):
        inner = x.shape[axis] - step
        smooth = 0.5 * x
        smooth.narrow(axis, step, inner).add_(x.narrow(axis, 0, inner), alpha=0.25)
        smooth.narrow(axis, 0, step).add_(x.narrow(axis, 0, 1), alpha=0.25)
        smooth.narrow(axis, 0, inner).add_(x.narrow(axis, step, inner), alpha=0.25)
        smooth.narrow(axis, inner, step).add_(x.narrow(axis, inner + step - 1, 1), alpha=0.25)
        x = smooth
    return x


def mix_pairs(
    x: Tensor, target: Tensor, settings: AugmentSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`(batch, 1, z, y, x)` crops and `(batch, class, ...)` targets, some blended with others of the batch."""
    if not settings.mixup:
        return x, target
    where = generator.device
    further = torch.randint(1, max(2, len(x)), (1,), generator=generator, device=where)  # never itself
    other = (torch.arange(len(x), device=where) + further) % len(x)
    share = 0.5 * torch.rand(len(x), generator=generator, device=where)
    share *= torch.rand(len(x), generator=generator, device=where) < settings.mixup
    other, share = other.to(x.device), share[:, None, None, None, None].to(x.device)
    return torch.lerp(x, x[other], share), torch.lerp(target, target[other], share)


def scramble(x: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """`(batch, 1, z, y, x)` crops of which some lose a part of their signal to noise of the same spectrum.

    The noise is the crop itself with random phases and amplitudes, so that it has the missing wedge and all else that
    the spectrum shows, which stays on average what it was; the contrast is then set as `normalise` would set it. The
    ratio of noise to signal is drawn for the lowest and for the highest frequency, uniform over the logarithm, and lies
    between them in between.
    """
    where = generator.device
    chosen = torch.rand(len(x), generator=generator, device=where) < settings.scrambling
    if not chosen.any():
        return x
    low, high = math.log(settings.least_scrambling), math.log(settings.most_scrambling)
    ends = low + (high - low) * torch.rand(len(x), 2, generator=generator, device=where)
    item, shape = torch.nonzero(chosen).flatten(), x.shape[2:]
    lowest, highest = ends[item].to(x.device)[:, :, None, None, None].unbind(1)
    noise = torch.randn((len(item), *shape), generator=generator, device=where).to(x.device)
    item = item.to(x.device)
    whole = x[item, 0]
    ratio = torch.exp(torch.lerp(lowest, highest, _relative_frequency(shape, x.device)))
    share = torch.rsqrt(1 + ratio**2)
    transform = torch.fft.rfftn(whole, dim=(1, 2, 3))
    transform *= torch.fft.rfftn(noise, dim=(1, 2, 3), norm="ortho").mul_(ratio * share).add_(share)
    drowned = torch.fft.irfftn(transform, s=shape, dim=(1, 2, 3))
    gain = _gain(whole, drowned)[:, None, None, None]
    return x.index_copy(0, item, torch.where(gain > 0, drowned * gain, whole)[:, None])


def _gain(before: Tensor, after: Tensor) -> Tensor:
    """`(item,)` factors that give changed crops the spread they had; 0 where there is none to be kept.

    A crop that is for the most part masked has no noise to go by.
    """
    spread, changed = _spread(before), _spread(after)
    return torch.where((spread > 0) & (changed > 0), spread / changed, 0.0)


def _spread(x: Tensor) -> Tensor:
    """`(item,)` median absolute deviation of `(item, ...)`, by one voxel in `SPREAD_OF_EVERY`."""
    some = x.flatten(1)[:, ::SPREAD_OF_EVERY]
    return (some - some.median(dim=1, keepdim=True).values).abs_().median(dim=1).values


@functools.cache
def _relative_frequency(shape_zyx: torch.Size, device: torch.device) -> Tensor:
    """`(z, y, x / 2 + 1)` distance of each frequency from zero, as a share of half the sampling rate; 1 at most."""
    z, y, x = shape_zyx
    squared = torch.fft.fftfreq(z)[:, None, None] ** 2 + torch.fft.fftfreq(y)[:, None] ** 2 + torch.fft.rfftfreq(x) ** 2
    return torch.clamp(2 * torch.sqrt(squared), max=1).to(device)


def augment(x: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """`(batch, 1, z, y, x)` normalised crops, each changed in its own way; half of them get smooth noise."""
    where = generator.device
    x = scramble(x, settings, generator)

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(len(x), 1, 1, 1, 1, generator=generator, device=where)
        return (low + (high - low) * draw).to(x.device)

    sharpening = uniform(-settings.sharpening, settings.sharpening)
    noise = torch.randn(x.shape, generator=generator, device=where).to(x.device)
    smoothed = torch.rand(len(x), generator=generator, device=where) < 0.5
    item = torch.nonzero(smoothed).flatten().to(x.device)
    noise.index_copy_(0, item, SMOOTH_NOISE_GAIN * binomial_filter(noise[item]))
    gamma = torch.exp(uniform(-1, 1) * math.log(settings.least_gamma))
    scale = torch.exp(uniform(-settings.log_scale, settings.log_scale))
    smooth = binomial_filter(x)
    x = torch.lerp(smooth, x, 1 + sharpening).addcmul_(noise, uniform(0, settings.noise))
    offset = uniform(-settings.offset, settings.offset)
    if settings.middle:
        middle = smooth - binomial_filter(smooth, step=2)
        x.addcmul_(middle, uniform(-settings.middle, settings.middle))
    curved = x.abs().clamp_(min=1e-6).pow_(gamma).copysign_(x)
    return curved.mul_(scale).add_(offset)
