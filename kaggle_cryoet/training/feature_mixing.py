"""Crops of a batch lend each other the means and spreads of their features, so that a network leans less on them.

What is foreign about tomograms of another origin shows in these statistics first. After Zhou et al., Domain
generalization with MixStyle (ICLR 2021), where the share of the way is drawn from a beta distribution.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOST_GAIN = 4.0
"""A channel that hardly varies in a crop is not made to vary by more than so many times as much."""
LEAST_VARIANCE = 1e-6
"""Is added to the variance of every channel, of which one may not vary at all."""


def mix_statistics(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Features of which some crops have means and spreads that are on the way to those of another crop.

    Parameters
    ----------
    x
        `(batch, channel, z, y, x)`.
    share
        Of the crops that are changed; each goes its own part of the way, uniform between nothing and all of it, in all
        channels.
    generator
        Of which crops, towards which others, and how far.
    """
    where = generator.device
    further = torch.randint(1, max(2, len(x)), (1,), generator=generator, device=where)  # never itself
    other = ((torch.arange(len(x), device=where) + further) % len(x)).to(x.device)
    way = torch.rand(len(x), generator=generator, device=where)
    way *= torch.rand(len(x), generator=generator, device=where) < share
    way = way.to(x.device)[:, None, None, None, None]
    variance, mean = torch.var_mean(x.detach().float(), dim=(2, 3, 4), keepdim=True, correction=0)
    spread = torch.sqrt(variance + LEAST_VARIANCE)
    gain = torch.lerp(torch.ones_like(spread), (spread[other] / spread).clamp_(max=MOST_GAIN), way)
    offset = torch.lerp(mean, mean[other], way) - gain * mean
    return x * gain.to(x.dtype) + offset.to(x.dtype)


class FeatureMixing:
    """Mixes the statistics of what encoders answer while they are trained, by the generator of the step."""

    def __init__(self, encoders: Iterable[nn.Module], share: float) -> None:
        self.share = share
        self.generator: torch.Generator | None = None
        """That of the step; without one features stay as they are."""
        for encoder in encoders:
            encoder.register_forward_hook(self._mix)

    def _mix(self, encoder: nn.Module, _: object, features: Tensor) -> Tensor:
        if self.generator is None or not encoder.training:
            return features
        return mix_statistics(features, self.share, self.generator)
