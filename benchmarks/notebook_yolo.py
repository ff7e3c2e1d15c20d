"""The YOLO half of the public YOLO + U-Net notebook, re-stated plainly.

YOLO11-l in float32 through ultralytics, slice by slice, on 8-bit slices between their 0.5 and 99.5 percentiles; boxes
above a confidence of 0.19; boxes of one type that lie close in neighbouring slices are one particle, if there are
enough of them. The notebook takes voxels to be 10 Å wide here, which puts picks up to 8 Å off; so does this.
"""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.geometry import index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks, concatenate

VOXEL_ANGSTROM = 10.0
IMAGE_PIXELS = 640
PERCENTILES = (0.5, 99.5)
LEAST_CONFIDENCE = 0.19
REACH_YX_ANGSTROM, REACH_Z_ANGSTROM = 20.0, 30.0
"""Boxes no farther apart belong to one particle."""
LEAST_SLICES = (4, 1, 2, 9, 4, 8)
LEAST_SCORE = (0.5, 0.0, 0.2, 0.5, 0.2, 0.5)
"""Scores must be above it."""
SCORE_EXPONENT = 0.34
"""The score of n boxes is the sum of their confidences over n to this power."""


def slice_levels(volume: NDArray[np.float32], z: int) -> NDArray[np.uint8]:
    """`(y, x, 3)` 8-bit image of a slice."""
    low, high = np.percentile(volume[z], PERCENTILES)
    level = np.clip((volume[z] - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=2)


def build_detector(size: str) -> Any:
    """Ultralytics' own YOLO11 with random weights: its time hardly depends on them."""
    from kaggle_cryoet.models.yolo11 import offline_ultralytics

    offline_ultralytics()
    from ultralytics import YOLO  # type: ignore[attr-defined]

    return YOLO(f"yolo11{size}.yaml", task="detect")


def detect_slices(
    detector: Any, volume: NDArray[np.float32], *, only: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], list[float]]:
    """Boxes in the first `only` slices: `(n, 3)` zyx in voxels, classes, confidences; and the seconds of each slice."""
    found, seconds = [], []
    threads = torch.get_num_threads()
    for z in range(len(volume))[:only]:
        started = time.perf_counter()
        (result,) = detector.predict(
            slice_levels(volume, z), imgsz=IMAGE_PIXELS, conf=LEAST_CONFIDENCE, device="cpu", verbose=False
        )
        torch.set_num_threads(threads)  # of two cores ultralytics takes one when it chooses the CPU, once
        boxes = result.boxes
        centre_xy = boxes.xywh[:, :2].numpy()
        found.append(np.column_stack([np.full(len(centre_xy), z), centre_xy[:, ::-1], boxes.cls, boxes.conf]))
        seconds.append(time.perf_counter() - started)
    table = np.concatenate(found)
    return table[:, :3], table[:, 3].astype(np.int64), table[:, 4], seconds


def join_slices(index_zyx: NDArray[np.float64], label: NDArray[np.int64], confidence: NDArray[np.float64]) -> Picks:
    """One pick for each group of boxes that is large and sure enough, at the mean of their centres."""
    parts = []
    for number in range(len(PARTICLES)):
        chosen = (label == number) & (confidence > LEAST_CONFIDENCE)
        position = index_to_angstrom(index_zyx[chosen], VOXEL_ANGSTROM)
        group = linked_groups(position)
        size = np.bincount(group)
        score = np.bincount(group, confidence[chosen]) / np.maximum(size, 1) ** SCORE_EXPONENT
        centre = np.column_stack([np.bincount(group, position[:, axis]) / size for axis in range(3)])
        kept = (size >= LEAST_SLICES[number]) & (score > LEAST_SCORE[number])
        parts.append(
            Picks(position_zyx_angstrom=centre[kept], label=np.full(int(kept.sum()), number), score=score[kept])
        )
    return concatenate(parts)


def linked_groups(position: NDArray[np.float64]) -> NDArray[np.int64]:
    """`(n,)` number of the group of each of `(n, 3)` boxes, linked by chains of close pairs, by union and find."""
    from scipy.spatial import KDTree

    parent = list(range(len(position)))

    def find(member: int) -> int:
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    reach = np.hypot(REACH_YX_ANGSTROM, REACH_Z_ANGSTROM)
    pairs = KDTree(position).query_pairs(reach, output_type="ndarray") if len(position) else np.empty((0, 2), int)
    apart = np.abs(position[pairs[:, 0]] - position[pairs[:, 1]])
    close = (np.hypot(apart[:, 1], apart[:, 2]) <= REACH_YX_ANGSTROM) & (apart[:, 0] <= REACH_Z_ANGSTROM)
    for first, second in pairs[close].tolist():
        parent[find(first)] = find(second)
    roots = [find(member) for member in range(len(position))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
