"""How a detector is trained: the presets, and their translation into ultralytics' arguments."""

from dataclasses import dataclass
from typing import Any

from kaggle_cryoet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class YoloRecipe:
    """Sizes, schedule and augmentation of a training."""

    image_pixels: int = 0
    """Edge of a training image; 0 is the longest edge of the slices, rounded up to a multiple of 32."""
    tile_pixels: int = 320
    """Longest edge of the slices that are written for it."""
    batch_size: int = 16
    images_per_epoch: int = 0
    """Images between two checkpoints, drawn anew each time; 0 is all there are."""
    epochs: int = 30
    warmup_epochs: float = 1.0
    learning_rate: float = 0.002
    """Of AdamW at its peak."""
    last_learning_rate: float = 0.01
    """Share of the learning rate that is left at the end."""
    cosine: bool = True
    weight_decay: float = 0.0005
    accumulate_to: int = 1
    """Gradients are summed up over batches to about so many images before a step; 1 is a step per batch."""
    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale: float = 0.1
    """Images are scaled by 1 minus to 1 plus this; size tells particles apart, so it stays small."""
    translation: float = 0.05
    flip: float = 0.5
    """Probability of a flip along x, and along y; both keep the missing wedge where it is."""
    flip_z: float = 0.5
    """Probability that the slices above and below change places."""
    mosaic: float = 0.5
    """Probability that an image is composed of parts of four."""
    mixup: float = 0.0
    copy_paste: float = 0.0
    """Share of the particles that are copied to a mirrored place."""
    closing_share: float = 0.15
    """Share of the epochs, the last ones, without mosaic, mixup and copy-paste."""
    jitter: bool = True
    """Vary contrast, brightness, sharpness and noise."""
    equalise: bool = True
    """Whether the model is to see tomograms with the mean spectrum of those it was trained on. In training it sees them
    as they are."""

    def __post_init__(self) -> None:
        """Check that every number makes sense."""
        if self.image_pixels % 32 or min(self.image_pixels, self.images_per_epoch, self.warmup_epochs) < 0:
            raise InputError(f"image edges must be multiples of 32 and no number negative, got {self}")
        if min(self.epochs, self.batch_size) < 1 or not 0 < self.learning_rate <= 1:
            raise InputError(f"epochs and batch size must be 1 or more, the learning rate up to 1, got {self}")
        shares = {name: getattr(self, name) for name in SHARES}
        if not all(0 <= share <= 1 for share in shares.values()):
            raise InputError(f"shares and probabilities are from 0 to 1, got {shares}")
        if not (0 <= self.rotation_degrees <= 180 and 0 <= self.shear_degrees < 90 and self.weight_decay >= 0):
            raise InputError(f"angles and the weight decay must not be negative, nor turn an image over, got {self}")


SHARES = (
    "last_learning_rate",
    "scale",
    "translation",
    "flip",
    "flip_z",
    "mosaic",
    "mixup",
    "copy_paste",
    "closing_share",
)
"""Fields of a recipe that are shares or probabilities."""
PRESETS: dict[str, YoloRecipe] = {
    "ours": YoloRecipe(images_per_epoch=3200),
    "paper": YoloRecipe(
        image_pixels=640,
        tile_pixels=640,
        batch_size=32,
        epochs=100,
        warmup_epochs=10.0,
        learning_rate=0.0003,
        cosine=False,
        accumulate_to=64,
        rotation_degrees=45.0,
        shear_degrees=5.0,
        scale=0.5,
        translation=0.1,
        flip_z=0.0,
        mosaic=1.0,
        mixup=0.1,
        copy_paste=0.1,
        closing_share=0.1,
        jitter=False,
        equalise=False,
    ),
}
"""`ours` suits a CPU and simulated slices. `paper` is the recipe of the paper that published the data; what it does not
give (shares of mixup and copy-paste, scale, mosaic) is as usual in ultralytics."""
PRESET_SEEDS = {"ours": 0, "paper": 8620}


def ultralytics_arguments(recipe: YoloRecipe, *, image_pixels: int, seed: int) -> dict[str, Any]:
    """Arguments of ultralytics' trainer for a recipe; colours do not exist, so hue and saturation stay."""
    return {
        "task": "detect",
        "imgsz": image_pixels,
        "batch": recipe.batch_size,
        "nbs": max(recipe.accumulate_to, recipe.batch_size),
        "epochs": recipe.epochs,
        "patience": recipe.epochs,
        "warmup_epochs": recipe.warmup_epochs,
        "optimizer": "AdamW",
        "lr0": recipe.learning_rate,
        "lrf": recipe.last_learning_rate,
        "cos_lr": recipe.cosine,
        "momentum": 0.9,
        "warmup_momentum": 0.9,
        "warmup_bias_lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "degrees": recipe.rotation_degrees,
        "shear": recipe.shear_degrees,
        "scale": recipe.scale,
        "translate": recipe.translation,
        "fliplr": recipe.flip,
        "flipud": recipe.flip,
        "bgr": recipe.flip_z,
        "mosaic": recipe.mosaic,
        "mixup": recipe.mixup,
        "copy_paste": recipe.copy_paste,
        "close_mosaic": round(recipe.closing_share * recipe.epochs),
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,
        "augmentations": [],  # none of albumentations, which joins in by itself where it is installed
        "amp": False,  # its check would fetch weights; the trainer turns on half precision itself
        "deterministic": False,
        "seed": seed,
        "plots": True,
        "verbose": False,
        "exist_ok": True,
        "max_det": 300,
    }
