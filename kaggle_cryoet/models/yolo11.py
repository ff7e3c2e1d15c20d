"""YOLO11 with one class for each particle type, and ultralytics without its reach for the network."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.spectrum import check_spectrum
from kaggle_cryoet.particles import PARTICLE_NAMES

if TYPE_CHECKING:
    from torch import nn

SIZES = ("n", "s", "m", "l", "x")
OFFLINE = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
"""Variables that keep ultralytics from installing packages and from going online."""


@dataclass(frozen=True, kw_only=True)
class YoloSettings:
    """What a detector is built from, and what it sees of a tomogram."""

    size: str = "n"
    """One of `SIZES`."""
    neighbour_voxels: int = 2
    """The three channels of an image are the slices at z minus this, z, and z plus this; 0 is one slice three times."""
    darkest: float = -7.0
    """Normalised grey value that becomes level 0, in units of the volume's spread; particles are dark."""
    brightest: float = 3.0
    """Normalised grey value that becomes level 255."""
    spectrum: tuple[float, ...] = field(default=(), repr=False)
    """As that of `UNetSettings`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size not in SIZES:
            raise InputError(f"unknown YOLO11 size {self.size!r}; expected one of {', '.join(SIZES)}")
        if not isinstance(self.neighbour_voxels, int) or self.neighbour_voxels < 0:
            raise InputError(f"neighbour_voxels must be a whole number of at least 0, got {self.neighbour_voxels!r}")
        if not -float("inf") < self.darkest < self.brightest < float("inf"):
            raise InputError(f"darkest must be below brightest, got {self.darkest} and {self.brightest}")
        check_spectrum(self.spectrum)


def offline_ultralytics() -> None:
    """Import ultralytics so that it keeps off the network, says nothing, and has a folder that it may write to.

    Variables that are set already stay as they are. Must come before anything else imports ultralytics: it reads the
    variables once. A folder made for its settings is gone when the process ends. It does not get to read the address of
    the network card, for which a socket is opened, nor to hold this process and its children to one thread.
    """
    if "ultralytics" in sys.modules:
        return
    importlib.import_module("torch")  # which counts the cores before ultralytics sets a variable
    threads = os.environ.get("OMP_NUM_THREADS")
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="ultralytics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder
    silenced = logging.root.manager.disable
    logging.disable(logging.INFO)  # it tells where it keeps its settings
    getnode, uuid.getnode = uuid.getnode, lambda: 0
    try:
        importlib.import_module("ultralytics")
    finally:
        logging.disable(silenced)
        uuid.getnode = getnode
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)


def build_yolo(settings: YoloSettings) -> nn.Module:
    """An ultralytics `DetectionModel` with fresh weights, drawn from torch's generator; its classes are `PARTICLES`.

    It maps `(batch, 3, y, x)` images, 0 to 1, with edges that are multiples of 32, to a tuple of which the first is
    `(batch, 4 + 6, anchors)`: centre x, centre y, width, height in pixels, and a score for each class.

    Raises
    ------
    InputError
        If ultralytics lacks the description of YOLO11.
    """
    offline_ultralytics()
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import ROOT, YAML

    path = Path(ROOT) / "cfg" / "models" / "11" / "yolo11.yaml"
    if not path.is_file():
        raise InputError(f"{path}: is missing; install ultralytics anew")
    description = YAML.load(path)  # type: ignore[no-untyped-call]
    description |= {
        "nc": len(PARTICLE_NAMES),
        "scale": settings.size,
        "yaml_file": path.with_name(f"yolo11{settings.size}.yaml").name,
    }
    network: nn.Module = DetectionModel(description, ch=3, verbose=False)  # type: ignore[no-untyped-call]
    network.names = dict(enumerate(PARTICLE_NAMES))  # type: ignore[assignment]
    return network
