"""The network that denoises simulated tomograms as a trained one does real ones, and the file it is kept in.

It is a small U-Net that works on 2x2x2 blocks, without norms, so that it answers alike wherever its input is cut. What
it learns is what Noise2Noise learns (Lehtinen et al., ICML 2018; in cryo-ET cryoCARE, Topaz and DenoisET): the expected
signal, given a recording.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.folder import DESCRIPTION_FILE, WEIGHTS_FILE, with_weights, write_weights
from kaggle_cryoet.models.precision import cpu_has_bfloat16
from kaggle_cryoet.models.unet3d import space_to_depth, through_levels
from kaggle_cryoet.whole_file import whole_file

CHANNELS = (32, 48, 64)
"""Of each level, from the finest, which has half the resolution of the input."""
SLOPE = 0.1
"""Of the rectifier, for what is negative."""
STRIP_VOXELS = 96
"""Of y that are denoised at a time."""
MARGIN_VOXELS = 48
"""Of y that a strip is given on either side; the network sees no further."""


class DenoiserBlock(nn.Module):
    """Two 3x3x3 convolutions, around which the input goes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.around = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, inputs, z, y, x)` to `(batch, outputs, z, y, x)`."""
        hidden = functional.leaky_relu(self.first(x), SLOPE)
        return functional.leaky_relu(self.second(hidden) + self.around(x), SLOPE)


class Denoiser(nn.Module):
    """From a recording to the expected signal in it, both in spreads of the recording."""

    multiple = 2 ** len(CHANNELS)
    """What the edges of its input must be multiples of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(8, CHANNELS[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(CHANNELS))
        self.encode = nn.ModuleList(DenoiserBlock(width, width) for width in CHANNELS)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in itertools.pairwise(CHANNELS))
        self.decode = nn.ModuleList(DenoiserBlock(2 * width, width) for width in CHANNELS[:-1])
        self.head = nn.Conv3d(CHANNELS[0], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, 1, z, y, x)` with edges that are multiples of `multiple` to the same, in float32."""
        x = functional.leaky_relu(self.stem(space_to_depth(x)), SLOPE)
        x = through_levels(x, self.encode, self.down, self.up, self.decode)
        return depth_to_space(self.head(x).float())


def depth_to_space(x: Tensor) -> Tensor:
    """`(batch, 8, z, y, x)` to `(batch, 1, 2 z, 2 y, 2 x)`; undoes `space_to_depth`."""
    batch, _, depth, height, width = x.shape
    x = x.reshape(batch, 2, 2, 2, depth, height, width)
    return x.permute(0, 4, 1, 5, 2, 6, 3).reshape(batch, 1, 2 * depth, 2 * height, 2 * width)


def denoised(network: nn.Module, volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """The expected signal in a `(z, y, x)` recording of mean 0 and spread 1, in strips along y to save memory.

    In bfloat16 on processors that have it, in float32 on others, whose answers differ by less than .02 of their
    spread (`tests/test_denoiser.py`).
    """
    depth, height, width = volume.shape
    pad = [(0, -size % Denoiser.multiple) for size in (depth, width)]
    padded = np.pad(volume, (pad[0], (0, -height % Denoiser.multiple), pad[1]), mode="reflect")
    answer = np.empty_like(volume)
    network = network.eval().to(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16()):
        for start in range(0, height, STRIP_VOXELS):
            stop = min(start + STRIP_VOXELS, height)
            first = max(start - MARGIN_VOXELS, 0)
            strip = torch.from_numpy(padded[:, first : start + STRIP_VOXELS + MARGIN_VOXELS].copy())[None, None]
            signal = network(strip.contiguous(memory_format=torch.channels_last_3d))[0, 0]
            answer[:, start:stop] = signal[:depth, start - first : stop - first, :width].numpy()
    return answer


def check_place(directory: Path) -> None:
    """Raise an `InputError` if a folder is that of a model which picks, whose weights a denoiser would write over."""
    if (directory / DESCRIPTION_FILE).exists():
        raise InputError(f"{directory}: holds a model that picks; choose another folder for a denoiser")


def save_denoiser(directory: Path, network: Denoiser, provenance: Mapping[str, Any]) -> None:
    """Write weights at half precision, and where they come from, into one file of a folder.

    Raises
    ------
    InputError
        If it cannot be written, or the folder is that of a model that picks; what was there is left then.
    """
    from safetensors import SafetensorError

    check_place(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with whole_file(directory / WEIGHTS_FILE) as partial:
            write_weights(partial, network, {"provenance": json.dumps(dict(provenance))})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory}: the denoiser cannot be written ({error})") from error


def load_denoiser(directory: Path) -> nn.Module:
    """The network of a folder, in evaluation mode.

    Raises
    ------
    InputError
        If its weights are missing, not whole, or those of something else.
    """
    return with_weights(Denoiser(), directory, "a denoiser")
