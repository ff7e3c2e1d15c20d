"""A folder of slices: where its parts are, and the `data.yaml` that says what is in it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.whole_file import whole_file

DATA_FILE = "data.yaml"
REQUEST_FILE = "request.json"
IMAGES, LABELS = "images", "labels"
PARTS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class SliceFolder:
    """A finished folder of slices."""

    data_yaml: Path
    image: YoloSettings
    """Grey levels and channels of its images, and the mean spectrum of the tomograms that are trained on."""
    runs: dict[str, list[str]]
    """Names of the runs of each of `PARTS`."""
    longest_edge_pixels: int
    """Of the first image of each run."""
    equalised: bool
    """Whether its images show tomograms with their mean spectrum."""
    digest: str
    """What tells it from a folder with other images, by how they were made and their names, or with other boxes."""


def write_data_yaml(folder: Path, image: YoloSettings, *, equalised: bool) -> Path:
    """Write `data.yaml`; paths in it are relative to it, so that the folder may be moved."""
    path = folder / DATA_FILE
    content = {part: f"{IMAGES}/{part}" for part in PARTS} | {
        "names": dict(enumerate(PARTICLE_NAMES)),
        "channels": 3,
        "image": {name: value for name, value in asdict(image).items() if name != "size"}
        | {"spectrum": list(image.spectrum)},
        "equalised": equalised,
    }
    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf8")
    return path


def read_slice_folder(folder: Path) -> SliceFolder:
    """What is in a folder of slices.

    Raises
    ------
    InputError
        If `data.yaml` is missing or broken, its classes are not `PARTICLES` in their order, or a part has no image.
    """
    import cv2

    path = folder / DATA_FILE
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected a finished folder of slices")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
        names = content["names"]
        names = tuple(names[key] for key in sorted(names)) if isinstance(names, dict) else tuple(names)
        found = content.get("image", {"neighbour_voxels": 0})
        image = YoloSettings(**found | {"spectrum": tuple(found.get("spectrum", ()))})
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a description of slices ({' '.join(repr(error).split())[:200]})") from None
    if names != PARTICLE_NAMES:
        raise InputError(f"{path}: its classes are {', '.join(map(str, names))}; expected {', '.join(PARTICLE_NAMES)}")
    runs: dict[str, list[str]] = {}
    longest = 0
    for part in PARTS:
        first = {image.parent.name: image for image in sorted((folder / IMAGES / part).rglob("*.png"), reverse=True)}
        if not first:
            raise InputError(f"{folder / IMAGES / part}: holds no PNG images")
        runs[part] = sorted(first)
        for png in first.values():
            pixels = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
            if pixels is None:
                raise InputError(f"{png}: not a PNG image")
            longest = max(longest, *pixels.shape[:2])
    equalised = bool(content.get("equalised", False))
    return SliceFolder(
        data_yaml=path,
        image=image,
        runs=runs,
        longest_edge_pixels=longest,
        equalised=equalised,
        digest=_digest(folder, image, equalised=equalised),
    )


def _digest(folder: Path, image: YoloSettings, *, equalised: bool) -> str:
    """Digest of how images were made, of their names, and of the boxes."""
    made: list[object] = [image.neighbour_voxels, float(image.darkest), float(image.brightest), equalised]
    made.append(list(image.spectrum) if equalised else [])
    digest = hashlib.sha256(json.dumps(made).encode())
    for path in sorted((folder / IMAGES).rglob("*.png")):
        digest.update(str(path.relative_to(folder)).encode())
    for path in sorted((folder / LABELS).rglob("*.txt")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
