"""The public YOLO + U-Net notebook on one tomogram, with random weights: what the package's speed is compared with.

Time and memory of the networks do not depend on their values. A whole run takes minutes on a CPU, therefore a number of
windows and slices may be given; what they took on average then counts for all of them.
"""

import json
import statistics
from pathlib import Path

import click
import numpy as np

from benchmarks.notebook_merge import merge
from benchmarks.notebook_unet import FLIPS, blob_picks, classify, windows_of
from benchmarks.notebook_yolo import build_detector, detect_slices, join_slices
from kaggle_cryoet.picks import concatenate
from kaggle_cryoet.submission import write_submission
from kaggle_cryoet.tomogram import run_name


def for_all(seconds: list[float], count: int) -> float:
    """Seconds for all of `count` equal parts, from those of some; the first, which warms up, counts once."""
    if len(seconds) < 2 or len(seconds) == count:
        return sum(seconds) / len(seconds) * count
    return seconds[0] + statistics.fmean(seconds[1:]) * (count - 1)


@click.command()
@click.argument("tomogram", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--flips", type=click.IntRange(1, len(FLIPS)), default=len(FLIPS), show_default=True)
@click.option("--yolo-size", default="l", show_default=True)
@click.option("--windows", type=click.IntRange(1), help="Only so many windows of the U-Net.")
@click.option("--slices", type=click.IntRange(1), help="Only so many slices of YOLO.")
def main(tomogram: Path, output: Path, flips: int, yolo_size: str, windows: int | None, slices: int | None) -> None:
    """Pick in one TOMOGRAM.zarr, write a csv, and print seconds as a JSON object."""
    import torch
    import zarr

    from kaggle_cryoet.models.unet3d import HOST, build_unet

    volume = np.asarray(zarr.open_group(tomogram, mode="r")["0"], dtype=np.float32)
    torch.manual_seed(0)
    network = build_unet(HOST).eval()
    label, unet_seconds = classify(network, volume, flips=flips, only=windows)
    index, number, confidence, yolo_seconds = detect_slices(build_detector(yolo_size), volume, only=slices)
    picks = merge(concatenate([blob_picks(label), join_slices(index, number, confidence)]), least_points=1)
    write_submission(output, {run_name(tomogram): picks})
    measured = {
        "windows": [len(unet_seconds), len(windows_of(volume.shape))],
        "slices": [len(yolo_seconds), len(volume)],
        "unet": for_all(unet_seconds, len(windows_of(volume.shape))),
        "yolo": for_all(yolo_seconds, len(volume)),
        "measured": sum(unet_seconds) + sum(yolo_seconds),
    }
    click.echo(json.dumps(measured))


if __name__ == "__main__":
    main()
