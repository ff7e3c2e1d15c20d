"""The kinds of models, each in a folder of its own: 3D U-Net, YOLO11, hybrid."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.folder import (
    DESCRIPTION_FILE,
    FORMAT,
    TRAINING_FOLDER,
    WEIGHTS_DIGEST,
    WEIGHTS_FILE,
    common,
    read_description,
    with_weights,
    write_folder,
)
from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLE_NAMES

__all__ = [
    "DESCRIPTION_FILE",
    "FORMAT",
    "TRAINING_FOLDER",
    "WEIGHTS_FILE",
    "UNetModel",
    "YoloModel",
    "load_hybrid",
    "load_unet",
    "load_yolo",
    "save_hybrid",
    "save_unet",
    "save_yolo",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class UNetModel:
    """A trained 3D U-Net with what is needed to pick with it."""

    network: nn.Module
    settings: UNetSettings
    thresholds: tuple[float, ...]
    """Score above which a candidate is a pick, for each particle type in the order of `PARTICLES`."""
    provenance: Mapping[str, Any]
    """Data, seeds, commit, time and scores."""
    calibration: Calibration | None = None
    """How likely candidates are particles, by their scores; None if that was not fitted yet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class YoloModel:
    """A trained YOLO11 with what is needed to pick with it."""

    network: nn.Module
    settings: YoloSettings
    thresholds: tuple[float, ...]
    """Score above which a candidate is a pick, for each particle type in the order of `PARTICLES`."""
    provenance: Mapping[str, Any]
    """Data, seeds, commit, time and scores."""
    calibration: Calibration | None = None
    """How likely candidates are particles, by their scores; None if that was not fitted yet."""


def save_unet(directory: str | Path, model: UNetModel) -> None:
    """Write the folder of a 3D U-Net; a model that is there is replaced once the new one is whole.

    Raises
    ------
    InputError
        If something else than a model is there, or the folder cannot be written.
    """
    _save(directory, model, model.network, {"kind": "unet3d", "settings": asdict(model.settings)})


def save_yolo(directory: str | Path, model: YoloModel) -> None:
    """Write the folder of a YOLO11; otherwise like `save_unet`."""
    _save(directory, model, model.network, {"kind": "yolo11", "settings": asdict(model.settings)})


def save_hybrid(directory: str | Path, model: HybridModel) -> None:
    """Write the folder of a hybrid, which has no weights file; otherwise like `save_unet`."""
    coefficients = dict(zip(PARTICLE_NAMES, model.coefficients, strict=True))
    _save(directory, model, None, {"kind": "hybrid", "features": FEATURES, "coefficients": coefficients})


def load_unet(directory: str | Path) -> UNetModel:
    """Read the folder of a 3D U-Net, onto the CPU, in float32, ready to predict.

    Raises
    ------
    InputError
        If the folder is incomplete, of another format or kind or for other particles, or its weights do not fit its
        settings.
    """
    directory = Path(directory)
    with read_description(directory, "unet3d") as description:
        settings = UNetSettings(
            preset=description["settings"]["preset"],
            channels=tuple(int(width) for width in description["settings"]["channels"]),
            localise=description["settings"].get("localise", "maxima"),
            spectrum=tuple(map(float, description["settings"].get("spectrum", ()))),
        )
        rest = common(description)
    network = with_weights(build_unet(settings), directory, settings, expected_digest=description.get(WEIGHTS_DIGEST))
    return UNetModel(network=network, settings=settings, **rest)


def load_yolo(directory: str | Path) -> YoloModel:
    """Read the folder of a YOLO11; otherwise like `load_unet`."""
    directory = Path(directory)
    with read_description(directory, "yolo11") as description:
        found = description["settings"]
        settings = YoloSettings(**found | {"spectrum": tuple(map(float, found.get("spectrum", ())))})
        rest = common(description)
    network = with_weights(build_yolo(settings), directory, settings, expected_digest=description.get(WEIGHTS_DIGEST))
    return YoloModel(network=network, settings=settings, **rest)


def load_hybrid(directory: str | Path) -> HybridModel:
    """Read the folder of a hybrid; otherwise like `load_unet`."""
    with read_description(Path(directory), "hybrid") as description:
        if description["features"] != list(FEATURES):
            raise InputError(f"it is for the features {description['features']}, expected {list(FEATURES)}")
        coefficients = tuple(tuple(map(float, description["coefficients"][name])) for name in PARTICLE_NAMES)
        return HybridModel(coefficients=coefficients, **common(description))


def _save(
    directory: str | Path,
    model: UNetModel | YoloModel | HybridModel,
    network: nn.Module | None,
    description: Mapping[str, Any],
) -> None:
    """Write a model folder of any kind."""
    write_folder(
        Path(directory),
        description,
        thresholds=model.thresholds,
        calibration=model.calibration,
        provenance=model.provenance,
        network=network,
    )
