"""What a detector sees of a tomogram: 8-bit images of its z-slices, the same in training as in picking."""

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.models.yolo11 import YoloSettings


def to_levels(volume: NDArray[np.floating], settings: YoloSettings) -> NDArray[np.uint8]:
    """`(z, y, x)` levels of a normalised volume: 0 at `settings.darkest` or below, 255 at `brightest` or above."""
    levels = np.empty(volume.shape, dtype=np.uint8)
    scale = np.float32(255 / (settings.brightest - settings.darkest))
    for level, section in zip(levels, volume, strict=True):  # slice by slice for the sake of memory
        grey = np.subtract(section, np.float32(settings.darkest), dtype=np.float32)
        grey *= scale
        np.rint(grey, out=grey)
        np.clip(grey, 0, 255, out=grey)
        level[...] = grey
    return levels


def slice_image(levels: NDArray[np.uint8], z: int, settings: YoloSettings) -> NDArray[np.uint8]:
    """`(3, y, x)` image of one slice: the slice below, itself, the slice above; at the ends the last there is."""
    step = settings.neighbour_voxels
    image: NDArray[np.uint8] = levels[np.clip([z - step, z, z + step], 0, len(levels) - 1)]
    return image
