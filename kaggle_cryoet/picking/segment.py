"""Scores of every particle type at every place of a tomogram, from a 3D network that looks through windows."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.devices import autocast_dtype, is_out_of_memory
from kaggle_cryoet.picking.windows import (
    WindowSettings,
    Zyx,
    blend_weights,
    extract_window,
    fit_window,
    halve_window,
    window_starts,
    windows_for,
)

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

FLIPS: tuple[tuple[int, ...], ...] = ((), (-2, -1), (-3, -2), (-3, -1), (-3, -2, -1), (-3,), (-2,), (-1,))
"""Axes to flip, in the order in which they are used: first the half turns about z, x and y, then the mirrors.

All of them leave the missing wedge of a tilt series about y where it is (a quarter turn about z would not), and the
half turns keep the handedness of the particles as well."""

FLOAT32_SCORES = 2**27
"""Grids of more scores than this (512 MiB) are kept in float16. Blended scores lie between 0 and 1 and are sums of at
most a few addends, so that float16 is off by less than 0.002, while a grid at full resolution would take 1.8 GB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreGrid:
    """Scores of the particle types on a regular grid over a tomogram."""

    score: NDArray[np.floating]
    """`(class, z, y, x)` float16 or float32 between 0 and 1, classes as in `PARTICLES`."""
    stride: int
    """Edge of a grid voxel in tomogram voxels; `geometry.coarse_to_fine_index` says where its centre is."""

    @property
    def shape_zyx(self) -> tuple[int, ...]:
        """Voxels of the tomogram that it covers."""
        return tuple(edge * self.stride for edge in self.score.shape[1:])

    def part(self, voxels: tuple[slice, slice, slice]) -> ScoreGrid:
        """Of some voxels of the tomogram, from multiples of the stride on."""
        z, y, x = (slice(part.start // self.stride, -(-part.stop // self.stride)) for part in voxels)
        return ScoreGrid(score=np.ascontiguousarray(self.score[:, z, y, x]), stride=self.stride)


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How a network is applied to a volume."""

    windows: WindowSettings | None = None
    """How the volume is cut; as suits the network if None."""
    flips: int = 1
    """Over how many flips of the volume the scores are averaged: 1, 2, 4 or 8, see `FLIPS`."""
    mixed_precision: bool = True
    """float16 on CUDA, bfloat16 on a CPU that computes with it; otherwise, and if False, float32."""
    minimum_window: int = 64
    """Windows with no edge above this are not halved further when memory runs out."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.flips not in (1, 2, 4, 8):
            raise InputError(f"flips must be 1, 2, 4 or 8, got {self.flips}")
        if self.minimum_window < 1:
            raise InputError(f"minimum_window must be positive, got {self.minimum_window}")


def segment(
    network: torch.nn.Module,
    volume: NDArray[np.float32],
    *,
    settings: SegmentSettings,
    device: torch.device,
) -> ScoreGrid:
    """Scores of a normalised `(z, y, x)` volume, on a grid of `ceil(shape / network.stride)` voxels.

    If memory runs out, it starts again with windows halved along their longest edge.

    Parameters
    ----------
    network
        Maps `(batch, 1, z, y, x)` to logits `(batch, class, z / stride, y / stride, x / stride)`, class 0 being the
        background. Its attribute `stride` says that stride, `multiple` what the edges of its input must be multiples
        of, and `channels_last`, if there is one, whether it is faster in that memory format. It is moved to the device
        and put into evaluation mode.
    volume
        `(z, y, x)`, normalised.
    settings
        How the network is applied.
    device
        Where it is applied.

    Raises
    ------
    InputError
        If the network is not as described.
    MemoryError, RuntimeError
        If memory does not suffice for the smallest windows either.
    FloatingPointError
        If its logits are not finite even in float32.
    """
    import torch

    stride, multiple = _stride_and_multiple(network)
    windows = settings.windows or windows_for(stride)
    ready(network, device)
    window_zyx = fit_window(windows.window_zyx, volume.shape, multiple)
    while True:
        try:
            with torch.inference_mode():
                return _blend(network, volume, window_zyx, windows.overlap, settings, device)
        except (MemoryError, RuntimeError) as error:
            smaller = halve_window(window_zyx, multiple, settings.minimum_window)
            if smaller is None or not is_out_of_memory(error):
                raise
            logger.warning("out of memory with windows of %s voxels; trying %s", window_zyx, smaller)
            window_zyx = smaller
        if device.type == "cuda":  # here, where the error no longer holds the tensors
            torch.cuda.empty_cache()


def ready(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The network itself, in evaluation mode on a device, in the memory format that it is fastest in."""
    import torch

    network.eval().to(device)
    if getattr(network, "channels_last", False):
        network.to(memory_format=torch.channels_last_3d)
    return network


def _blend(
    network: torch.nn.Module,
    volume: NDArray[np.float32],
    window_zyx: Zyx,
    overlap: float,
    settings: SegmentSettings,
    device: torch.device,
) -> ScoreGrid:
    """Scores of a volume, blended from windows of one size."""
    import torch

    stride, multiple = _stride_and_multiple(network)
    shape = (len(PARTICLES), *(-(-size // stride) for size in volume.shape))
    score = np.zeros(shape, dtype=np.float32 if math.prod(shape) <= FLOAT32_SCORES else np.float16)
    blended = torch.from_numpy(score)
    dtype = autocast_dtype(device) if settings.mixed_precision else None
    axes = []
    for size, edge in zip(volume.shape, window_zyx, strict=True):
        starts = window_starts(size, edge, overlap=overlap, multiple=multiple)
        axes.append(list(zip(starts.tolist(), blend_weights(starts // stride, edge // stride), strict=True)))
    for (z, weight_z), (y, weight_y), (x, weight_x) in itertools.product(*axes):
        window = torch.from_numpy(extract_window(volume, (z, y, x), window_zyx)).to(device)
        part = _scores(network, window, stride, settings.flips, dtype)  # (class, z, y, x)
        if dtype is not None and not _is_finite(part):
            logger.warning("the network overflows in %s; going on in float32", dtype)
            dtype = None
            part = _scores(network, window, stride, settings.flips, dtype)
        if dtype is None and not _is_finite(part):
            raise FloatingPointError(f"the network gives logits that are not finite in the window at {(z, y, x)}")
        part *= torch.from_numpy(weight_z[:, None, None] * weight_y[:, None] * weight_x).to(device)
        target = blended[:, z // stride :, y // stride :, x // stride :]
        depth, height, width = map(min, target.shape[1:], part.shape[1:])  # without the rim that was mirrored
        target[:, :depth, :height, :width] += part[:, :depth, :height, :width].cpu()
    return ScoreGrid(score=score, stride=stride)


def _scores(
    network: torch.nn.Module, window: torch.Tensor, stride: int, flips: int, dtype: torch.dtype | None
) -> torch.Tensor:
    """`(class, z / stride, y / stride, x / stride)` float32 scores of a `(z, y, x)` window, averaged over flips."""
    scores = (_scores_of_flip(network, window, stride, axes, dtype) for axes in FLIPS[:flips])
    total = next(scores)
    for score in scores:
        total += score
    return total if flips == 1 else total.div_(flips)


def _scores_of_flip(
    network: torch.nn.Module, window: torch.Tensor, stride: int, axes: tuple[int, ...], dtype: torch.dtype | None
) -> torch.Tensor:
    """Scores of a `(z, y, x)` window that the network is shown flipped, turned back."""
    import torch

    flipped = window.flip(axes) if axes else window  # flipping copies, even along no axis
    with torch.autocast(window.device.type, dtype=dtype, enabled=dtype is not None):
        logits = network(flipped[None, None])
    expected = (1, len(PARTICLES) + 1, *(edge // stride for edge in window.shape))
    if logits.shape != expected:
        raise InputError(
            f"the network makes {tuple(logits.shape)} of a window of {tuple(window.shape)}; expected {expected}"
        )
    score: torch.Tensor = logits.softmax(1, dtype=torch.float32)[0, 1:]  # without the background
    return score.flip(axes) if axes else score


def _is_finite(score: torch.Tensor) -> bool:
    """Whether there is no NaN among scores, the softmax of logits that are not finite."""
    return math.isfinite(score.sum())


def _stride_and_multiple(network: torch.nn.Module) -> tuple[int, int]:
    """Grid stride of a network, and what the edges of its windows must be multiples of."""
    stride, multiple = getattr(network, "stride", None), getattr(network, "multiple", None)
    if not (isinstance(stride, int) and isinstance(multiple, int) and stride >= 1 and multiple % stride == 0):
        raise InputError(
            f"a network needs the integers stride and multiple, the latter a multiple of the former; "
            f"{type(network).__name__} has {stride=}, {multiple=}"
        )
    return stride, multiple
