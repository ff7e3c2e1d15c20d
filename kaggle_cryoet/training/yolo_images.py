"""What a detector is shown in training: slices at their native scale, changed in contrast, sharpness and noise."""

import math
from copy import copy
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings, offline_ultralytics

offline_ultralytics()  # before ultralytics is imported; a class cannot be derived from it otherwise

from ultralytics.data.dataset import YOLODataset  # noqa: E402

UltralyticsImages: Any = YOLODataset
"""Without types, which ultralytics has only in part."""
CIRCLE_POINTS = 24


class LevelJitter:
    """Draws contrast, brightness, sharpness and noise for an image; strengths are in units of a tomogram's spread."""

    def __init__(self, image: YoloSettings) -> None:
        self.spread_levels = 255 / (image.brightest - image.darkest)
        self.median_level = -image.darkest * self.spread_levels

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Change `labels["img"]`, `(y, x, 3)` uint8."""
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002 ultralytics seeds the global generator
        labels["img"] = jitter_levels(labels["img"], self.median_level, self.spread_levels, rng)
        return labels


def jitter_levels(
    image: NDArray[np.uint8], median_level: float, spread_levels: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """`(y, x, 3)` image changed about its median; all channels alike, so that a plain image stays plain."""
    sharpening = rng.uniform(-0.6, 0.6)
    sharp: Any = cv2.addWeighted(image, 1 + sharpening, cv2.GaussianBlur(image, (3, 3), 0.85), -sharpening, 0)
    noise: Any = rng.normal(0, rng.uniform(0, 0.4) * spread_levels, image.shape[:2]).astype(np.float32)
    if rng.random() < 0.5:
        noise = 8 / 3 * cv2.GaussianBlur(noise, (3, 3), 0.85)
    gain = math.exp(rng.uniform(-0.25, 0.25))
    offset = median_level * (1 - gain) + rng.uniform(-0.25, 0.25) * spread_levels
    changed = sharp * np.float32(gain) + (noise + np.float32(offset))[..., None]
    return np.asarray(np.clip(changed, 0, 255).round(), dtype=np.uint8)


def outlines(boxes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """For each of `(n, 4)` boxes (centre x, centre y, width, height) the `(k, 2)` xy of the ellipse that fills it."""
    angle = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    return list((boxes[:, None, :2] + boxes[:, None, 2:] * circle).astype(np.float32))


class SliceImages(UltralyticsImages):
    """Images of a slice folder, never resampled on reading."""

    def __init__(self, *args: Any, jitter: YoloSettings | None, circles: bool, **kwargs: Any) -> None:
        self.jitter = jitter
        self.circles = circles
        super().__init__(*args, **kwargs)

    def get_labels(self) -> list[dict[str, Any]]:
        """Boxes of every image; with `circles` outlines too, which stay tight when turned, and which can be copied."""
        labels: list[dict[str, Any]] = super().get_labels()
        if self.circles:
            for label in labels:
                label["segments"] = outlines(label["bboxes"])
        return labels

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[NDArray[np.uint8], tuple[int, int], tuple[int, int]]:
        """Image number `i` as `(y, x, 3)`, and twice its shape: as it was and as it is."""
        if self.ims[i] is None:
            image: Any = cv2.imread(self.im_files[i], cv2.IMREAD_COLOR)
            if image is None:
                raise InputError(f"{self.im_files[i]}: not an image")
            if max(image.shape[:2]) > self.imgsz:
                raise InputError(
                    f"{self.im_files[i]}: is larger than the {self.imgsz} pixels of a training image; write slices "
                    "with smaller tiles"
                )
            if not self.augment:
                return image, image.shape[:2], image.shape[:2]
            self.ims[i], self.im_hw0[i], self.im_hw[i] = image, image.shape[:2], image.shape[:2]
            self.buffer.append(i)
            if len(self.buffer) >= max(2, self.max_buffer_length):
                self.ims[self.buffer.pop(0)] = None
        shown: tuple[NDArray[np.uint8], tuple[int, int], tuple[int, int]] = self.ims[i], self.im_hw0[i], self.im_hw[i]
        return shown

    def build_transforms(self, hyp: Any) -> Any:
        """Ultralytics' transforms, with the jitter before the last, which makes a tensor."""
        transforms = super().build_transforms(copy(hyp))
        if self.augment and self.jitter is not None:
            transforms.insert(len(transforms.transforms) - 1, LevelJitter(self.jitter))
        return transforms
