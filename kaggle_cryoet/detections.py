"""What YOLO11 finds in single slices of a tomogram, before slices are joined: drawn, and counted against picks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_cryoet.errors import InputError

if TYPE_CHECKING:
    from kaggle_cryoet.picking.adapt import AdaptSettings
    from kaggle_cryoet.report.slice_count import SliceCount


def draw_detections_in(
    tomogram_dir: str | Path,
    *,
    output: str | Path,
    run_name: str | None = None,
    weights: str | Path | None = None,
    count: int = 4,
    least_confidence: float = 0.25,
    tomogram_type: str = "denoised",
    adapt: AdaptSettings | None = None,
    device: str = "auto",
) -> dict[Path, SliceCount]:
    """Detect particles in a tomogram's slices, and draw some of these; what is in each, by path of its picture.

    Of a tilt series about x, slices are drawn as networks see them: with y and x exchanged.

    Parameters
    ----------
    tomogram_dir
        Any form that `find_runs` takes.
    output
        Folder for the pictures.
    run_name
        Run to draw; the first if not given. If it has picks, detections are counted against them.
    weights
        Folder of a YOLO11, or one with `yolo11` in it; the package's own if not given.
    count
        Number of slices.
    least_confidence
        Detections must be above it.
    tomogram_type
        Reconstruction to take where the run has several.
    adapt
        What is known better than the tomogram says.
    device
        `auto`, `cpu` or `cuda`.

    Raises
    ------
    InputError
        If tomogram, picks or weights cannot be used, or the pictures cannot be written.
    """
    from kaggle_cryoet.labels import read_labels
    from kaggle_cryoet.models.store import load_yolo
    from kaggle_cryoet.picking.adapt import read_adapted
    from kaggle_cryoet.picking.branches import SHIPPED_WEIGHTS, YOLO_FOLDER, find_models
    from kaggle_cryoet.picking.detect import DetectSettings, detect
    from kaggle_cryoet.picking.devices import choose_devices
    from kaggle_cryoet.picking.equalise import equalise
    from kaggle_cryoet.picking.normalise import normalise
    from kaggle_cryoet.report.detection_pictures import draw_detections
    from kaggle_cryoet.runs import find_runs

    settings = DetectSettings(least_confidence=least_confidence, stride_z=1)  # any slice may be drawn
    runs = {run.name: run for run in find_runs(tomogram_dir, tomogram_type=tomogram_type)}
    if run_name is not None and run_name not in runs:
        raise InputError(f"{tomogram_dir}: holds no run {run_name}; it holds {', '.join(list(runs)[:5])}")
    run = runs[run_name or next(iter(runs))]
    model = load_yolo(find_models("yolo", Path(weights or SHIPPED_WEIGHTS))[YOLO_FOLDER])
    tomogram, exchanged = read_adapted(run, adapt)
    truth = None if run.picks_directory is None else read_labels(run.picks_directory)
    if truth is not None and exchanged:
        truth = truth.with_y_and_x_exchanged()
    volume = equalise(normalise(tomogram.data), model.settings.spectrum)
    found = detect(model.network, volume, settings, model.settings, choose_devices(device)[0])
    return draw_detections(tomogram, found, truth, output=Path(output), count=count)
