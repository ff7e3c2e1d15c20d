"""Boxes around particles in the z-slices of a tomogram, from a 2D detector that sees one slice with its neighbours."""

import copy
import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.boxes import Boxes, best_of_overlapping, complete_at_borders, decode
from kaggle_cryoet.picking.devices import autocast_dtype, is_out_of_memory
from kaggle_cryoet.picking.slices import slice_image, to_levels
from kaggle_cryoet.picking.windows import round_up

logger = logging.getLogger(__name__)

MULTIPLE = 32
"""What the edges of the detector's images are multiples of."""
FILL_LEVEL = 114
"""Grey of the rim that makes up the multiple: that of ultralytics, which the detector knows from its training."""
BATCH_CPU, BATCH_CUDA = 4, 16


@dataclass(frozen=True, kw_only=True)
class DetectSettings:
    """How a detector is applied to a volume."""

    batch_size: int | None = None
    """Slices at a time, fewer when memory runs out; None is 4 on a CPU and 16 on a GPU."""
    stride_z: int = 3
    """Every which slice is looked at. The smallest particle shows in ten of them."""
    least_confidence: float = 0.05
    """Boxes must be above it. Low, because association adds up what many slices say."""
    most_iou: float = 0.5
    """Boxes of one type in one slice that overlap more are one."""
    mixed_precision: bool = True
    """float16 on CUDA, bfloat16 on a CPU that computes with it; otherwise, and if False, float32."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.stride_z < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise InputError(f"stride and batch must be positive, got {self.stride_z=}, {self.batch_size=}")
        if not (0 < self.least_confidence < 1 and 0 <= self.most_iou <= 1):
            raise InputError(f"must be between 0 and 1, got {self.least_confidence=}, {self.most_iou=}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Boxes around particles in slices of one tomogram."""

    index_zyx: NDArray[np.float64]
    """`(n, 3)` centres in voxels; z is the slice."""
    label: NDArray[np.int64]
    """`(n,)` index of each particle's type in `PARTICLES`."""
    confidence: NDArray[np.float64]
    """`(n,)` between 0 and 1."""
    diameter_voxels: NDArray[np.float64]
    """`(n, 2)` edges of the boxes along y and x."""
    slices: NDArray[np.int64]
    """`(k,)` the slices that were looked at, ascending."""

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.label)


def detect(
    network: torch.nn.Module,
    volume: NDArray[np.floating],
    settings: DetectSettings,
    yolo_settings: YoloSettings,
    device: torch.device,
) -> Detections:
    """Boxes in the z-slices of a normalised `(z, y, x)` volume, by slice, type and falling confidence.

    If memory runs out, it goes on with half as many slices at a time.

    Parameters
    ----------
    network
        What `build_yolo` makes; it is left as it is. One that `prepare` was given is faster to start.
    volume
        `(z, y, x)`, normalised.
    settings
        How the network is applied.
    yolo_settings
        What it sees of the volume.
    device
        Where it is applied.

    Raises
    ------
    MemoryError, RuntimeError
        If memory does not suffice for a single slice.
    FloatingPointError
        If the network's answer is not finite even in float32.
    """
    network = prepare(network, device)
    levels = to_levels(volume, yolo_settings)
    slices = np.arange((len(volume) - 1) % settings.stride_z // 2, len(volume), settings.stride_z)
    batch = settings.batch_size or (BATCH_CUDA if device.type == "cuda" else BATCH_CPU)
    dtype = autocast_dtype(device) if settings.mixed_precision else None
    found: list[tuple[NDArray[np.int64], Boxes]] = []
    done = 0
    while done < len(slices):
        part = slices[done : done + batch]
        images = np.stack([slice_image(levels, z, yolo_settings) for z in part])  # (batch, 3, y, x)
        try:
            boxes = _boxes_in(network, images, settings, device, dtype)
        except FloatingPointError:
            if dtype is None:
                raise
            logger.warning("the network overflows in %s; going on in float32", dtype)
            dtype = None
            continue
        except (MemoryError, RuntimeError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            batch = -(-batch // 2)
            logger.warning("out of memory with %d slices; trying %d", len(part), batch)
        else:
            found.append((part[boxes.image], boxes))
            done += len(part)
            continue
        if device.type == "cuda":  # here, where the error no longer holds the tensors
            torch.cuda.empty_cache()
    return _detections(found, slices, (volume.shape[1], volume.shape[2]), settings)


def prepare(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """A copy for prediction, on the device, with its norms folded into its convolutions; itself if it is one."""
    if not network.is_fused():  # type: ignore[operator]
        network = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            network.fuse(verbose=False)  # type: ignore[operator]
    return network.to(device)


def _boxes_in(
    network: torch.nn.Module,
    images: NDArray[np.uint8],
    settings: DetectSettings,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Boxes:
    """Boxes in a `(batch, 3, y, x)` array of images."""
    height, width = images.shape[2:]
    rim = (0, round_up(width, MULTIPLE) - width, 0, round_up(height, MULTIPLE) - height)
    with torch.inference_mode():
        batch = torch.from_numpy(images).to(device)
        batch = torch.nn.functional.pad(batch, rim, value=FILL_LEVEL)
        batch = batch.to(torch.float32, memory_format=torch.channels_last).div_(255)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            _, raw = network(batch)
    strides: list[int] = network.stride.int().tolist()  # type: ignore[operator]
    return decode(raw["scores"], raw["boxes"], raw["feats"], strides, settings.least_confidence)


def _detections(
    found: list[tuple[NDArray[np.int64], Boxes]],
    slices: NDArray[np.int64],
    shape_yx: tuple[int, int],
    settings: DetectSettings,
) -> Detections:
    """Boxes of all batches, without those that overlap surer ones or whose centres lie beyond the slice."""
    z = np.concatenate([part for part, _ in found])
    label = np.concatenate([boxes.label for _, boxes in found])
    confidence = np.concatenate([boxes.confidence for _, boxes in found])
    corners = np.concatenate([boxes.corners for _, boxes in found])
    group = z * len(PARTICLES) + label
    kept = best_of_overlapping(group, confidence, corners, settings.most_iou)
    corners = complete_at_borders(corners[kept], shape_yx)
    centre_xy = (corners[:, :2] + corners[:, 2:]) / 2 - 0.5  # the first pixel's centre is at 0
    inside = ((centre_xy > -0.5) & (centre_xy < np.array(shape_yx[::-1]) - 0.5)).all(axis=1)
    return Detections(
        index_zyx=np.column_stack([z[kept], centre_xy[:, ::-1]])[inside],
        label=label[kept][inside],
        confidence=confidence[kept][inside],
        diameter_voxels=np.ascontiguousarray((corners[:, 2:] - corners[:, :2])[inside, ::-1]),
        slices=slices,
    )
