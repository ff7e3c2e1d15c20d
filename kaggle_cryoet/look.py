"""A first look at data: the detector on the image of a single slice, counted against picks if there are any."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.adapt import COARSEST_ANGSTROM, FINEST_ANGSTROM, TONES, AdaptSettings, adapt
from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, YOLO_FOLDER, find_models

if TYPE_CHECKING:
    from kaggle_cryoet.picks import Picks
    from kaggle_cryoet.report.slice_count import SliceCount

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LookSettings:
    """How a detector is applied to an image."""

    voxel_angstrom: float = CZII_VOXEL_ANGSTROM
    """Edge of a pixel in Å."""
    tone: str = "auto"
    """Particles are `dark` or `bright`; `auto`: on the side to which the grey values are skewed."""
    least_confidence: float = 0.25
    """Boxes must be above it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not FINEST_ANGSTROM <= self.voxel_angstrom <= COARSEST_ANGSTROM:
            expected = f"between {FINEST_ANGSTROM:g} and {COARSEST_ANGSTROM:g} Å"
            raise InputError(f"a pixel is {expected}, got {self.voxel_angstrom} Å")
        if self.tone not in TONES:
            raise InputError(f"particles are {' or '.join(TONES)}, got {self.tone!r}")
        if not 0 < self.least_confidence < 1:
            raise InputError(f"a confidence is between 0 and 1, got {self.least_confidence}")


def look_at_image(
    path: str | Path,
    *,
    output: str | Path,
    picks_directory: str | Path | None = None,
    z: int = 0,
    weights: str | Path | None = None,
    settings: LookSettings | None = None,
) -> SliceCount:
    """Detect particles in the image of one slice, count them, and draw them.

    Parameters
    ----------
    path
        The image: png, tif, jpg.
    output
        Picture to write, a png.
    picks_directory
        Picks of the tomogram that the slice is of, in any form that `find_picks` takes, of one run.
    z
        Index of the slice in its tomogram; matters with picks only.
    weights
        Folder of a YOLO11, or one with `yolo11` in it; the package's own if not given.
    settings
        How the detector is applied.

    Raises
    ------
    InputError
        If image, picks or weights cannot be used, or the picture cannot be written.
    """
    from kaggle_cryoet.report.look_picture import draw_look
    from kaggle_cryoet.report.slice_count import count_detections
    from kaggle_cryoet.report.style import check_picture
    from kaggle_cryoet.slice_image import read_slice_image

    path, output = Path(path), Path(output)
    settings = settings or LookSettings()
    if output.exists() and output.resolve() == path.resolve():
        raise InputError(f"{output}: is the image to look at; expected another file to write")
    check_picture(output)
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output}: its folder does not exist")
    image = read_slice_image(path)
    truth = None if picks_directory is None else _picks_of_one_run(picks_directory)
    if truth is not None:
        _warn_beyond(truth, z * settings.voxel_angstrom, path)
    found, radius_angstrom = detect_in_image(image, weights, settings)
    count = count_detections(found, truth, z_angstrom=z * settings.voxel_angstrom)
    draw_look(image, count, radius_angstrom, voxel_angstrom=settings.voxel_angstrom, name=path.stem, output=output)
    return count


def detect_in_image(
    image: NDArray[np.float32], weights: str | Path | None, settings: LookSettings
) -> tuple[Picks, NDArray[np.float64]]:
    """Detections in a `(y, x)` image, with z = 0 and confidences as scores, and `(n,)` radii of their boxes in Å.

    The image takes the place of a tomogram of one slice: its grey values are brought to the same scale, and all three
    channels of the detector's input are the same.
    """
    import torch

    from kaggle_cryoet.models.store import load_yolo
    from kaggle_cryoet.picking.detect import DetectSettings, detect
    from kaggle_cryoet.picking.normalise import normalise
    from kaggle_cryoet.picks import Picks
    from kaggle_cryoet.tomogram import Tomogram

    model = load_yolo(find_models("yolo", SHIPPED_WEIGHTS if weights is None else Path(weights))[YOLO_FOLDER])
    slab = Tomogram(data=image[None], voxel_angstrom=settings.voxel_angstrom, name="image")  # (1, y, x)
    slab = adapt(slab, AdaptSettings(tone=settings.tone))
    how = DetectSettings(least_confidence=settings.least_confidence, mixed_precision=False)  # the same on every CPU
    detections = detect(model.network, normalise(slab.data), how, model.settings, torch.device("cpu"))
    found = Picks(
        position_zyx_angstrom=index_to_angstrom(detections.index_zyx, slab.voxel_angstrom),
        label=detections.label,
        score=detections.confidence,
    )
    return found, detections.diameter_voxels.mean(axis=1) / 2 * slab.voxel_angstrom


def _warn_beyond(picks: Picks, z_angstrom: float, path: Path) -> None:
    """Say so if a slice lies above or below all picks."""
    z, radius = picks.position_zyx_angstrom[:, 0], max(particle.radius_angstrom for particle in PARTICLES)
    if len(z) and not z.min() - radius <= z_angstrom <= z.max() + radius:
        logger.warning(
            "%s: lies at %.0f Å, and all picks from %.0f to %.0f Å: is it this slice, and are these its voxels?",
            path,
            *(z_angstrom, z.min(), z.max()),
        )


def _picks_of_one_run(directory: str | Path) -> Picks:
    """Picks in a folder that has those of one run."""
    from kaggle_cryoet.labels import read_labels
    from kaggle_cryoet.runs import find_picks

    runs = find_picks(directory)
    if len(runs) > 1:
        raise InputError(f"{directory}: holds picks of {len(runs)} runs ({', '.join(runs)}); expected those of one")
    return read_labels(next(iter(runs.values())))
