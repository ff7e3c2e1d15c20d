"""Cover a volume of any size with overlapping windows, and blend what a network makes of them.

The windows form a regular grid, so that the weights with which they are blended separate into one factor per axis and
can be normalised beforehand: at every voxel the weights of all windows add up to 1, and blending is adding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError

Zyx = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How a volume is cut into windows."""

    window_zyx: Zyx = (192, 240, 352)
    """Edges in voxels, rounded up to the network's multiple; an axis shorter than its edge becomes one window.
    The default takes a competition tomogram (184, 630, 630) in six windows of full depth."""
    overlap: float = 0.125
    """The least overlap of neighbouring windows, as a fraction of the edge."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if len(self.window_zyx) != 3 or min(self.window_zyx) < 1:
            raise InputError(f"window_zyx must be three positive edges, got {self.window_zyx}")
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap must be at least 0 and less than 1, got {self.overlap}")


HALF_RESOLUTION = WindowSettings()
FULL_RESOLUTION = WindowSettings(window_zyx=(96, 192, 192), overlap=0.25)
"""Networks that work at full resolution need eight times the memory for the same window."""


def windows_for(stride: int) -> WindowSettings:
    """Windows that suit a network whose grid has a stride."""
    return HALF_RESOLUTION if stride > 1 else FULL_RESOLUTION


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not less than `size`."""
    return -(-size // multiple) * multiple


def fit_window(window_zyx: Zyx, shape_zyx: tuple[int, ...], multiple: int) -> Zyx:
    """Edges of the windows for a volume: multiples, and no longer than the volume needs."""
    z, y, x = (
        min(round_up(edge, multiple), round_up(size, multiple))
        for edge, size in zip(window_zyx, shape_zyx, strict=True)
    )
    return z, y, x


def halve_window(window_zyx: Zyx, multiple: int, minimum: int) -> Zyx | None:
    """Edges with the longest one halved (the last of equals); None if no edge is longer than `minimum` any more."""
    axis = max(range(3), key=lambda axis: (window_zyx[axis], axis))
    halved = round_up(window_zyx[axis] // 2, multiple)
    if window_zyx[axis] <= minimum or halved == window_zyx[axis]:
        return None
    z, y, x = (halved if i == axis else edge for i, edge in enumerate(window_zyx))
    return z, y, x


def window_starts(size: int, window: int, *, overlap: float, multiple: int) -> NDArray[np.int64]:
    """`(n,)` first voxels of the windows along one axis: evenly spread from 0, multiples of `multiple`.

    The last window ends at `size` rounded up to the multiple. Networks that pool see every voxel in the same phase of
    their pooling, whichever window it is in.
    """
    free = (round_up(size, multiple) - window) // multiple
    step = max(int(window * (1 - overlap)) // multiple, 1)
    intervals = -(-free // step)
    return np.arange(intervals + 1, dtype=np.int64) * free // max(intervals, 1) * multiple


def blend_weights(starts: NDArray[np.int64], window: int) -> NDArray[np.float32]:
    """`(n, window)` weights of n windows along one axis, which add up to 1 at each voxel that a window covers.

    Before they are normalised they are a squared sine, highest in a window's centre, where a network sees most context,
    and positive at its edges.
    """
    feather = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    total = np.zeros(int(starts[-1]) + window)
    for start in starts:
        total[start : start + window] += feather
    return np.stack([feather / total[start : start + window] for start in starts]).astype(np.float32)


def extract_window(volume: NDArray[np.float32], start_zyx: Zyx, window_zyx: Zyx) -> NDArray[np.float32]:
    """`window_zyx` voxels from `start_zyx`, mirrored where they reach over the far ends of the `(z, y, x)` volume."""
    read, missing, wanted = [], [], []
    for start, edge, size in zip(start_zyx, window_zyx, volume.shape, strict=True):
        beyond = max(start + edge - size, 0)
        first = max(start - beyond, 0)  # what is mirrored may lie before the window
        read.append(slice(first, start + edge))
        missing.append((0, beyond))
        wanted.append(slice(start - first, None))
    return np.ascontiguousarray(np.pad(volume[tuple(read)], missing, mode="reflect")[tuple(wanted)])
