"""The two 3D U-Nets.

`half` answers on a grid of half the resolution: the input's 2x2x2 blocks become channels, so that no convolution runs
at full resolution. Its BatchNorm does not depend on the size of the window.
`host` is the paper's network: MONAI's `UNet` at full resolution (channels 48, 64, 80, 80; strides 2, 2, 1; one
residual unit).

Both map `(batch, 1, z, y, x)` to logits `(batch, 1 + 6, z / stride, y / stride, x / stride)`; channel 0 is the
background.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.offline_monai import offline_monai
from kaggle_cryoet.models.spectrum import check_spectrum
from kaggle_cryoet.particles import PARTICLES

OUTPUT_CHANNELS = 1 + len(PARTICLES)
PRESETS = ("half", "host")


@dataclass(frozen=True, kw_only=True)
class UNetSettings:
    """What a network is built from, and how its answers are read."""

    preset: str = "half"
    """`half` or `host`."""
    channels: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of each level, from the finest."""
    localise: Literal["maxima", "centroids"] = "maxima"
    """How particles are found in its scores: it was trained to answer with peaks, or with blobs."""
    spectrum: tuple[float, ...] = field(default=(), repr=False)
    """Radial Fourier amplitude, by shell, to which tomograms are brought before it sees them; they stay as they are if
    there is none."""

    def __post_init__(self) -> None:
        """Check the preset, the channels and the method."""
        if self.preset not in PRESETS:
            raise InputError(f"unknown network preset {self.preset!r}; expected one of {', '.join(PRESETS)}")
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise InputError(f"a U-Net needs two levels or more of one channel or more, got {self.channels}")
        if self.localise not in ("maxima", "centroids"):
            raise InputError(f"scores are localised by maxima or centroids, got {self.localise!r}")
        check_spectrum(self.spectrum)


HALF = UNetSettings()
HOST = UNetSettings(preset="host", channels=(48, 64, 80, 80))


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with BatchNorm and ReLU, around which the input goes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm3d(outputs)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm3d(outputs)
        self.around = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, z, y, x)` to `(batch, outputs, z, y, x)`."""
        hidden = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(hidden)) + self.around(x))


class HalfUNet(nn.Module):
    """U-Net whose finest level, and output, has half the resolution of its input."""

    stride = 2
    channels_last = True

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.multiple = 2 ** len(channels)
        self.stem = nn.Conv3d(8, channels[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm3d(channels[0])
        self.down = nn.ModuleList(
            nn.Conv3d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in itertools.pairwise(channels)
        )
        self.encode = nn.ModuleList(ResidualBlock(width, width) for width in channels)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1, bias=False) for fine, coarse in itertools.pairwise(channels))
        self.decode = nn.ModuleList(ResidualBlock(2 * width, width) for width in channels[:-1])
        self.head = nn.Conv3d(channels[0], OUTPUT_CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, 1, z, y, x)` with edges that are multiples of `multiple` to logits at half the resolution."""
        x = space_to_depth(x)  # (batch, 8, z / 2, y / 2, x / 2)
        x = functional.relu(self.stem_norm(self.stem(x)))
        return self.head(through_levels(x, self.encode, self.down, self.up, self.decode))  # type: ignore[no-any-return]


def through_levels(
    x: Tensor, encode: nn.ModuleList, down: nn.ModuleList, up: nn.ModuleList, decode: nn.ModuleList
) -> Tensor:
    """Down the levels of a U-Net and up again, what is skipped before what comes from below."""
    skipped = []
    for level, encoder in enumerate(encode):
        x = encoder(x)
        if level < len(down):
            skipped.append(x)
            x = down[level](x)
    for level in reversed(range(len(down))):
        x = functional.interpolate(up[level](x), scale_factor=2.0, mode="nearest")
        x = decode[level](torch.cat([skipped[level], x], dim=1))
    return x


class HostUNet(nn.Module):
    """MONAI's `UNet` as the paper uses it, at full resolution."""

    stride = 1
    channels_last = False

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        offline_monai()
        from monai.networks.nets.unet import UNet

        self.multiple = 2 ** (len(channels) - 2)
        self.net: Any = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=OUTPUT_CHANNELS,
            channels=channels,
            strides=(2,) * (len(channels) - 2) + (1,),
            num_res_units=1,
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, 1, z, y, x)` to logits of the same size."""
        return self.net(x)  # type: ignore[no-any-return]


def space_to_depth(x: Tensor) -> Tensor:
    """`(batch, 1, z, y, x)` to `(batch, 8, z / 2, y / 2, x / 2)`: each 2x2x2 block becomes channels, z slowest."""
    batch, _, depth, height, width = x.shape
    x = x.reshape(batch, depth // 2, 2, height // 2, 2, width // 2, 2)
    return x.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, 8, depth // 2, height // 2, width // 2)


def build_unet(settings: UNetSettings) -> nn.Module:
    """A network with fresh weights, drawn from torch's generator."""
    if settings.preset == "half":
        return HalfUNet(settings.channels)
    return HostUNet(settings.channels)


PRESET_SETTINGS = {"half": HALF, "host": HOST}
