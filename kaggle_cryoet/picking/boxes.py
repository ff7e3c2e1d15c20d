"""Boxes in images: from a network's raw answer to corners, completed at the borders, the best of those that overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

MOST_BOXES_PER_IMAGE = 3000
"""The surest boxes of an image that are looked at; a network that is sure everywhere would fill the memory."""
BORDER_PIXELS = 1.5
"""A box whose edge is this close to the image's is taken to be cut by it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """Boxes in a batch of images."""

    image: NDArray[np.int64]
    """`(n,)` number of the image in the batch."""
    label: NDArray[np.int64]
    """`(n,)` class."""
    confidence: NDArray[np.float64]
    """`(n,)` between 0 and 1."""
    corners: NDArray[np.float64]
    """`(n, 4)` x0, y0, x1, y1 in pixels; the upper left corner of the image is at 0, 0."""


def decode(
    scores: Tensor, distances: Tensor, maps: Sequence[Tensor], strides: Sequence[int], least_confidence: float
) -> Boxes:
    """All boxes above a confidence, one for each class that reaches it, from the raw answer of YOLO11's head.

    Only these few are decoded, in float32: in half precision a corner would be off by whole pixels.

    Parameters
    ----------
    scores
        `(batch, class, anchor)`, logits.
    distances
        `(batch, 4 * bins, anchor)`, logits of the distances from the anchor to the left, upper, right and lower edge:
        a bin is one stride.
    maps
        Arrays `(..., y / stride, x / stride)`, of whose pixels the centres are the anchors.
    strides
        Pixels of the image along an edge of a pixel of each map.
    least_confidence
        Confidences must be above it.

    Raises
    ------
    FloatingPointError
        If the answer is not finite.
    """
    certainty = scores.float().sigmoid()  # (batch, class, anchor)
    if not torch.isfinite(certainty.sum()):
        raise FloatingPointError("the network gives scores that are not finite")
    image, label, anchor = (certainty > least_confidence).nonzero(as_tuple=True)
    kept = _surest_of_each(image, certainty[image, label, anchor], len(scores))
    image, label, anchor = image[kept], label[kept], anchor[kept]
    bins = distances.shape[1] // 4
    share = distances[image, :, anchor].float().reshape(-1, 4, bins).softmax(2)
    distance = share @ torch.arange(bins, dtype=torch.float32, device=share.device)  # (n, 4)
    centre, stride = _anchors(maps, strides, distance.device)
    centre, stride = centre[anchor], stride[anchor, None]
    corners = torch.cat([centre - distance[:, :2], centre + distance[:, 2:]], dim=1) * stride
    if not torch.isfinite(corners.sum()):
        raise FloatingPointError("the network gives boxes that are not finite")
    return Boxes(
        image=image.cpu().numpy(),
        label=label.cpu().numpy(),
        confidence=certainty[image, label, anchor].double().cpu().numpy(),
        corners=corners.double().cpu().numpy(),
    )


def _surest_of_each(image: Tensor, certainty: Tensor, images: int) -> Tensor | slice:
    """Which of `(n,)` boxes to look at: all, unless one of the images has too many."""
    if not len(image) or int(torch.bincount(image, minlength=images).max()) <= MOST_BOXES_PER_IMAGE:
        return slice(None)
    order = certainty.argsort(descending=True, stable=True)
    return torch.cat([order[image[order] == number][:MOST_BOXES_PER_IMAGE] for number in range(images)])


def _anchors(maps: Sequence[Tensor], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """`(anchor, 2)` centres x, y in units of the stride, and `(anchor,)` strides, map after map, row after row."""
    centres, repeated = [], []
    for pixels, stride in zip(maps, strides, strict=True):
        height, width = pixels.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
        )
        centres.append(torch.stack([x, y], dim=-1).reshape(-1, 2))
        repeated.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(centres), torch.cat(repeated)


def complete_at_borders(corners: NDArray[np.float64], shape_yx: tuple[int, int]) -> NDArray[np.float64]:
    """`(n, 4)` boxes of which those that one border of the image cuts are squares again, as boxes of spheres are.

    Their centres are then those of the particles, not of what can be seen of them.
    """
    whole = corners.copy()
    edge = corners[:, 2:] - corners[:, :2]  # (n, xy)
    for axis, size in ((0, shape_yx[1]), (1, shape_yx[0])):
        longer = edge[:, 1 - axis]
        cut = longer > edge[:, axis]
        first = cut & (corners[:, axis] < BORDER_PIXELS)
        last = cut & (corners[:, axis + 2] > size - BORDER_PIXELS) & ~first
        whole[first, axis] = corners[first, axis + 2] - longer[first]
        whole[last, axis + 2] = corners[last, axis] + longer[last]
    return whole


def best_of_overlapping(
    group: NDArray[np.int64], confidence: NDArray[np.float64], corners: NDArray[np.float64], most_iou: float
) -> NDArray[np.int64]:
    """Indices, by group and falling confidence, of the boxes that overlap no kept surer one of their group too much.

    Parameters
    ----------
    group
        `(n,)` boxes of different groups do not affect each other.
    confidence
        `(n,)` the surest box is kept first; of equally sure ones the first.
    corners
        `(n, 4)` x0, y0, x1, y1.
    most_iou
        Intersection over union up to which two boxes stand side by side.
    """
    order = np.lexsort((-confidence, group))
    kept: NDArray[np.bool_] = _keep_greedily(group[order], np.ascontiguousarray(corners[order]), most_iou)
    return order[kept]


@njit(cache=True, nogil=True)
def _keep_greedily(group: NDArray[np.int64], corners: NDArray[np.float64], most_iou: float) -> NDArray[np.bool_]:
    """`(n,)` mask of the kept ones among boxes sorted by group and falling confidence."""
    kept = np.zeros(len(group), dtype=np.bool_)
    survivors = np.empty(len(group), dtype=np.int64)
    count = 0
    for i in range(len(group)):
        if i and group[i] != group[i - 1]:
            count = 0
        area = (corners[i, 2] - corners[i, 0]) * (corners[i, 3] - corners[i, 1])
        free = True
        for k in range(count):
            j = survivors[k]
            width = min(corners[i, 2], corners[j, 2]) - max(corners[i, 0], corners[j, 0])
            height = min(corners[i, 3], corners[j, 3]) - max(corners[i, 1], corners[j, 1])
            if width > 0 and height > 0:
                other = (corners[j, 2] - corners[j, 0]) * (corners[j, 3] - corners[j, 1])
                if width * height > most_iou * (area + other - width * height):
                    free = False
                    break
        if free:
            kept[i] = True
            survivors[count] = i
            count += 1
    return kept
