"""A network whose BatchNorm goes by the tomogram at hand, for tomograms of another kind than it was trained on.

In these, features have other means and spreads than BatchNorm knows, and a network takes one particle for another. To
move its statistics towards those of the tomogram helps there, and harms where what is unusual about a tomogram is what
is in it. Which of both it is can be told afterwards, by how sure the network is of what it sees (`pickers`).

Source of the principle: Schneider, Rusak, Eck, Bringmann, Brendel and Bethge, "Improving robustness against common
corruptions by covariate shift adaptation", NeurIPS (2020).
"""

import copy
import itertools
import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.picking.devices import autocast_dtype, is_out_of_memory
from kaggle_cryoet.picking.segment import ready
from kaggle_cryoet.picking.windows import Zyx, extract_window, fit_window

if TYPE_CHECKING:
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

logger = logging.getLogger(__name__)

SHARE = 0.7
"""How far statistics move, from those of the training to those of the tomogram."""
CROP_VOXELS = 96
"""Longest edge of the four crops that stand for a tomogram."""
MIDDLE_YX = (240, 352)
"""Voxels along y and x of the part of a tomogram that tells whether it is better seen so: one window."""


def with_statistics_of(
    volume: NDArray[np.float32], network: "torch.nn.Module", device: "torch.device", *, mixed_precision: bool = True
) -> "torch.nn.Module | None":
    """A copy of a network on its device, with BatchNorm's statistics moved towards those in a `(z, y, x)` volume.

    None if it has no BatchNorm that keeps statistics, if memory does not suffice for four crops at once, or if what
    they give is not finite.
    """
    import torch

    try:
        return _moved(volume, network, device, autocast_dtype(device) if mixed_precision else None)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    logger.warning("not enough memory for the statistics of a tomogram; it is seen by those of the training")
    if device.type == "cuda":  # here, where the error no longer holds the tensors
        torch.cuda.empty_cache()
    return None


def _moved(
    volume: NDArray[np.float32], network: "torch.nn.Module", device: "torch.device", dtype: "torch.dtype | None"
) -> "torch.nn.Module | None":
    """What `with_statistics_of` returns, if there is memory for it; in float32 if half precision overflows."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    own = ready(copy.deepcopy(network), device)
    norms = [layer for layer in own.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        return None
    before = [_statistics(norm) for norm in norms]
    crops = torch.from_numpy(_crops(volume, network.multiple)).to(device)  # type: ignore[arg-type]
    for precision in dict.fromkeys([dtype, None]):
        for norm in norms:
            norm.train()
            norm.reset_running_stats()  # of infinite ones nothing would be left but NaN
            norm.momentum = 1.0
        with torch.inference_mode(), torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            own(crops)
        moved = [torch.lerp(training, _statistics(norm), SHARE) for norm, training in zip(norms, before, strict=True)]
        if all(bool(statistics.isfinite().all()) for statistics in moved):
            for norm, (mean, variance) in zip(norms, moved, strict=True):
                norm.running_mean, norm.running_var = mean, variance
            return own.eval()
    return None


def _statistics(norm: "_BatchNorm") -> "torch.Tensor":
    """`(2, channel)` running means and variances."""
    import torch

    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.stack([norm.running_mean, norm.running_var])


def middle(shape_zyx: tuple[int, ...], multiple: int) -> tuple[slice, slice, slice]:
    """The middle of a volume along y and x, beginning at multiples of `multiple`; all of an axis that is short."""
    depth, height, width = shape_zyx
    return slice(0, depth), _middle_of(height, MIDDLE_YX[0], multiple), _middle_of(width, MIDDLE_YX[1], multiple)


def _middle_of(size: int, wanted: int, multiple: int) -> slice:
    """The middle of one axis, not without a rim that would be no wider than `multiple`."""
    if size <= wanted + 2 * multiple:
        return slice(0, size)
    first = (size - wanted) // 2 // multiple * multiple
    return slice(first, first + wanted)


def _crops(volume: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """`(4, 1, z, y, x)` one crop from each quarter of a volume, in turns above and below its middle."""
    edges = fit_window((CROP_VOXELS,) * 3, volume.shape, multiple)
    free = [max(size - edge, 0) for size, edge in zip(volume.shape, edges, strict=True)]
    crops = []
    for number, (y, x) in enumerate(itertools.product((1, 3), repeat=2)):
        start: Zyx = (free[0] * (1 + (number in (1, 2))) // 3, free[1] * y // 4, free[2] * x // 4)
        crops.append(extract_window(volume, start, edges))
    return np.stack(crops)[:, None]
