"""Labelled tomograms as a folder of images and boxes in YOLO's form, split into training and validation by tomogram."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.equalise import equalise
from kaggle_cryoet.picking.slices import slice_image, to_levels
from kaggle_cryoet.runs import tomogram_type_of
from kaggle_cryoet.tomogram import RunLocation
from kaggle_cryoet.training.slice_boxes import LEAST_CUT, boxes_in_slice, yolo_lines
from kaggle_cryoet.training.slice_folder import DATA_FILE, IMAGES, LABELS, PARTS, REQUEST_FILE, write_data_yaml
from kaggle_cryoet.training.unchanged import check_unchanged, picks_digest
from kaggle_cryoet.training.volumes import (
    GOLDEN_RATIO,
    MOST_FOR_SPECTRUM,
    LabelledVolume,
    check_names,
    evenly,
    every_eighth,
    find_sources,
    load_labelled_volume,
    spectrum_of,
)
from kaggle_cryoet.whole_file import sole_folder, write_json

PNG_COMPRESSION = 1
"""The noise of tomograms hardly compresses; higher levels cost time and gain nothing."""
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, kw_only=True)
class SliceSettings:
    """Which slices are taken, and in which form."""

    image: YoloSettings = field(default_factory=YoloSettings)
    """Grey levels and channels of an image; size of the network and spectrum do not matter here."""
    tomogram_types: tuple[str, ...] = ("denoised",)
    """Reconstructions to train on. The first is taken of every run; of one that follows, such as `wbp@0.25`, that share
    of the runs that have it, spread evenly. Slices of the others are in folders named `<run>.<type>`."""
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    """What is known better than tomograms say."""
    equalise: bool = False
    """Whether tomograms are brought towards their mean spectrum first, as prediction shows them to a network. Slices
    that are written plain are of tomograms as they are, since a single image cannot be."""
    every: int = 4
    """Every n-th slice is taken, the first at random: slices side by side are nearly the same."""
    plain_share: float = 0.2
    """Share of the training slices that are written once more with one slice in all channels, so that a network
    also works on a single image."""
    tile_pixels: int = 320
    """Slices with a longer edge are cut into overlapping tiles of this edge; pixels are never resampled."""
    least_cut: float = LEAST_CUT
    """As in `boxes_in_slice`."""
    seed: int = 0
    """Of the first slices and of those that are written plain as well."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.every < 1 or self.tile_pixels < 32 or self.seed < 0:
            raise InputError(f"expected every 1 or more, tiles of 32 pixels or more, a seed of 0 or more, got {self}")
        if not 0 <= self.plain_share <= 1 or not 0 < self.least_cut < 1:
            raise InputError(f"expected a share from 0 to 1 and a least cut between 0 and 1, got {self}")


def write_slices(
    data_directories: Sequence[str | Path],
    output: str | Path,
    *,
    validation_directories: Sequence[str | Path] = (),
    settings: SliceSettings | None = None,
    progress: bool = False,
) -> Path:
    """Write the images and boxes of all runs, and return `output/data.yaml`, which is there when all are.

    `images/{train,val}/<run>/*.png`, `labels/{train,val}/<run>/*.txt`. Without validation directories every eighth run,
    at least one, is for validation. A run appears whole or not at all; a folder that was interrupted is completed by
    the same call, and one of the same settings with fewer runs grows, unless slices are equalised: their spectrum is
    that of all. Runs that are there stay in the part they are in, which among more runs takes validation directories.

    Raises
    ------
    InputError
        If runs are missing, none is labelled, some have equal names, or the folder holds something else or is being
        written.
    """
    from tqdm.auto import tqdm

    output, settings = Path(output), settings or SliceSettings()
    runs = _split(data_directories, validation_directories, settings.tomogram_types)
    request = _request(runs, settings)
    with sole_folder(output):
        _check_folder(output, request)
        try:
            if any(not (output / IMAGES / part / run.name).is_dir() for run, part in runs):
                (output / DATA_FILE).unlink(missing_ok=True)  # of fewer runs
            write_json(output / REQUEST_FILE, request)
            trained_on = [run for run, part in runs if part == PARTS[0]]
            some = evenly(trained_on, MOST_FOR_SPECTRUM)
            spectrum = spectrum_of(load_labelled_volume(run, adapt=settings.adapt) for run in some)
            for run, part in tqdm(runs, desc="slices", unit="tomogram", disable=not progress):
                if not (output / IMAGES / part / run.name).is_dir():
                    volume = load_labelled_volume(run, adapt=settings.adapt)
                    _write_run(output, volume, part, settings, spectrum if settings.equalise else ())
            image = replace(settings.image, spectrum=spectrum)
            return write_data_yaml(output, image, equalised=settings.equalise)
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error})") from error


def check_slices(
    data_directories: Sequence[str | Path],
    folder: Path,
    *,
    validation_directories: Sequence[str | Path] = (),
    settings: SliceSettings,
) -> None:
    """Raise an `InputError` unless a folder was written by `write_slices` of these very runs; write nothing."""
    runs = _split(data_directories, validation_directories, settings.tomogram_types)
    try:
        before = json.loads((folder / REQUEST_FILE).read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / REQUEST_FILE}: cannot be read ({error})") from error
    check_unchanged(before, _request(runs, settings), what=f"{folder}: a training")


def _request(runs: Sequence[tuple[RunLocation, str]], settings: SliceSettings) -> dict[str, Any]:
    """What the slices of a folder follow from, as JSON gives it back."""
    picks = {run.name: picks_digest([read_labels(run.picks_directory)]) for run, _ in runs if run.picks_directory}
    return {"settings": _settings_as_json(settings), "runs": {run.name: part for run, part in runs}, "picks": picks}


def _settings_as_json(settings: SliceSettings) -> dict[str, Any]:
    """All but the spectrum, which follows from the runs."""
    wanted = asdict(settings) | {"tomogram_types": list(settings.tomogram_types)}
    del wanted["image"]["spectrum"]
    return wanted


def _split(
    data: Sequence[str | Path], validation: Sequence[str | Path], tomogram_types: Sequence[str]
) -> list[tuple[RunLocation, str]]:
    """Tomograms, named as their folders of slices, and the part each belongs to; those of a run stay together."""
    runs = _chosen(data, tomogram_types[:1])
    held_out = _chosen(validation, tomogram_types[:1]) if validation else list(every_eighth(runs))
    if not validation and len(runs) < 2:
        raise InputError("one run alone leaves none to validate on; give more runs, or a folder for validation")
    trained_on = _chosen(data, tomogram_types)
    if not validation:
        seen = {run.specimen for run in held_out}
        trained_on = [run for run in trained_on if run.specimen not in seen]
    pairs = [*((run, PARTS[0]) for run in trained_on), *((run, PARTS[1]) for run in held_out)]
    check_names([run for run, _ in pairs])
    return pairs


def _chosen(directories: Sequence[str | Path], tomogram_types: Sequence[str]) -> list[RunLocation]:
    """Of each type as many of its tomograms as its share says; those after the first are named after run and type."""
    tomograms: list[RunLocation] = []
    counts: Counter[str] = Counter()
    met: dict[Path, set[str]] = {}
    for source in find_sources(directories, tomogram_types):
        run, kind = source.run, tomogram_type_of(source.run.tomogram_path)
        if source.weight > 1:
            raise InputError(
                f"run {run.name}: slices are written once; expected a share of 1 at most, got {source.weight:g}"
            )
        kinds = met.setdefault(run.specimen, set())
        further = kinds and kind not in kinds  # a run that is given twice keeps its name, which is then refused
        if counts[kind] * GOLDEN_RATIO % 1 < source.weight:
            tomograms.append(replace(run, name=f"{run.name}.{kind}") if further else run)
        counts[kind] += 1
        kinds.add(kind)
    check_names(tomograms)
    return tomograms


def _check_folder(output: Path, request: Mapping[str, Any]) -> None:
    """Raise unless the folder is new, empty, or holds a part of the same request."""
    if not any(output.iterdir()):
        return
    try:
        before = json.loads((output / REQUEST_FILE).read_text(encoding="utf8"))
        same = _settings_as_json(SliceSettings()) | before["settings"] == request["settings"]
        moved = [name for name, part in before["runs"].items() if request["runs"].get(name) != part]
        others = [
            name for name, digest in before.get("picks", {}).items() if request["picks"].get(name, digest) != digest
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{output}: is not empty and holds no slices; expected a new folder") from None
    grows = request["settings"]["equalise"] and before["runs"] != request["runs"]
    if not same or moved or others or grows:
        why = f"its settings are {before['settings']}"
        if same and moved:
            now, part = request["runs"].get(moved[0]), before["runs"][moved[0]]
            why = f"run {moved[0]} was for {part} and is not in it now"
            if now is not None:
                why = f"run {moved[0]} was for {part} and would be for {now}; tell which are for validation"
        elif same and others:
            why = f"run {others[0]} had other picks"
        elif same:
            why = "they are equalised to the spectrum of fewer runs"
        raise InputError(f"{output}: holds slices of another request ({why}); choose another folder")


def _write_run(
    output: Path, volume: LabelledVolume, part: str, settings: SliceSettings, spectrum: Sequence[float]
) -> None:
    """Write a run, brought towards a spectrum if there is one, beside its place, then move it there, images last."""
    unfinished = output / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    images, labels = unfinished / IMAGES, unfinished / LABELS
    images.mkdir(parents=True)
    labels.mkdir()
    rng = np.random.default_rng([settings.seed, *hashlib.sha256(volume.name.encode()).digest()[:8]])
    plain_levels = to_levels(volume.volume, settings.image)
    levels = to_levels(equalise(volume.volume.astype(np.float32), spectrum), settings.image)
    shape = levels.shape[1:]
    for z in range(int(rng.integers(min(settings.every, len(levels)))), len(levels), settings.every):
        image = slice_image(levels, z, settings.image)  # (3, y, x)
        alone = plain_levels[z : z + 1]
        plain = part == PARTS[0] and settings.image.neighbour_voxels > 0 and rng.random() < settings.plain_share
        for y in tile_starts(shape[0], settings.tile_pixels):
            for x in tile_starts(shape[1], settings.tile_pixels):
                tile = image[:, y : y + settings.tile_pixels, x : x + settings.tile_pixels]
                boxes = boxes_in_slice(
                    volume.picks,
                    z,
                    voxel_angstrom=volume.voxel_angstrom,
                    origin_yx=(y, x),
                    shape_yx=tile.shape[1:],
                    least_cut=settings.least_cut,
                )
                text = yolo_lines(boxes, tile.shape[1:])
                name = f"z{z:03d}_y{y:03d}_x{x:03d}"
                _write_image(images / f"{name}.png", tile if settings.image.neighbour_voxels else tile[1:2])
                (labels / f"{name}.txt").write_text(text, encoding="utf8")
                if plain:
                    cut = alone[:, y : y + settings.tile_pixels, x : x + settings.tile_pixels]
                    _write_image(images / f"{name}_plain.png", cut)
                    (labels / f"{name}_plain.txt").write_text(text, encoding="utf8")
    for source, folder in ((labels, LABELS), (images, IMAGES)):
        place = output / folder / part / volume.name
        shutil.rmtree(place, ignore_errors=True)  # labels of a run that was interrupted here
        place.parent.mkdir(parents=True, exist_ok=True)
        source.rename(place)
    shutil.rmtree(unfinished, ignore_errors=True)


def tile_starts(edge: int, tile: int) -> list[int]:
    """First pixels of the fewest tiles that cover an edge, evenly spread; 0 alone if the edge is no longer than one."""
    count = -(-edge // tile)
    return [round(start) for start in np.linspace(0, max(edge - tile, 0), count)]


def _write_image(path: Path, channels: NDArray[np.uint8]) -> None:
    """Write `(1 or 3, y, x)` as a PNG; the first channel is red, which is the first again when it is read as RGB."""
    import cv2

    image = np.ascontiguousarray(channels[::-1].transpose(1, 2, 0))  # cv2 takes blue first
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]):
        raise OSError(f"{path.name} could not be written")
