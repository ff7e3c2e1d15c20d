"""Measure the package beside the plain notebook in one run, and print a Markdown table.

Everything is measured in fresh processes: their peak memory is then their own, and this one stays small because a
process begins with the peak memory of the one that started it.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from kaggle_cryoet.geometry import CZII_SHAPE_ZYX
from kaggle_cryoet.picking.branches import BRANCHES, MODELS, SHIPPED_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a finished process used."""

    seconds: float
    """From its start to its end."""
    peak_gigabytes: float
    """Largest resident memory."""
    output: str
    """What it printed."""

    @property
    def time(self) -> str:
        """Seconds as text."""
        return f"{self.seconds:.1f} s"

    @property
    def memory(self) -> str:
        """Peak memory as text."""
        return f"{self.peak_gigabytes:.2f} GB"


def run_process(module: str, *arguments: object) -> Usage:
    """Run `python -m module arguments...` to its end.

    Raises
    ------
    click.ClickException
        If it fails; with the last lines it wrote.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return Usage(seconds=seconds, peak_gigabytes=usage.ru_maxrss * unit / 1e9, output=out.read())


def measure(what: str, *arguments: object) -> Any:
    """The JSON object that a command of `benchmarks.measure` prints."""
    click.echo(f"measuring: {what} ...", err=True)
    return json.loads(run_process("benchmarks.measure", what, *arguments).output)


def predict(folder: Path, weights: Path, output: Path, branch: str, *options: str) -> Usage:
    """Pick the tomograms in a folder with the command line."""
    click.echo(f"measuring: predict, branch {branch} ...", err=True)
    arguments = ("predict", folder, "--branch", branch, "--device", "cpu", "--weights", weights, "--output", output)
    return run_process("kaggle_cryoet", *arguments, *options)


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """The notebook's pipeline on one tomogram, in part extrapolated."""

    seconds: float
    peak_gigabytes: float
    note: str
    """What was measured and what was not."""


def run_notebook(tomogram: Path, work: Path, *options: object) -> Notebook:
    """The notebook from zarr to csv: what was left out counts as long as what was done of its kind."""
    click.echo("measuring: the notebook ...", err=True)
    usage = run_process("benchmarks.plain_notebook", tomogram, "--output", work / "notebook.csv", *options)
    found = json.loads(usage.output)
    seconds = usage.seconds - found["measured"] + found["unet"] + found["yolo"]
    (windows, all_windows), (slices, all_slices) = found["windows"], found["slices"]
    whole = (windows, slices) == (all_windows, all_slices)
    note = (
        f"Of its time the U-Net takes {found['unet']:.0f} s ({windows} of {all_windows} windows measured), YOLO11 "
        f"{found['yolo']:.0f} s ({slices} of {all_slices} slices measured), the rest "
        f"{seconds - found['unet'] - found['yolo']:.0f} s"
        + ("." if whole else "; the time for all windows and slices is extrapolated from those measured.")
    )
    return Notebook(seconds=seconds, peak_gigabytes=usage.peak_gigabytes, note=note)


@click.command()
@click.option("--shape", nargs=3, type=int, default=CZII_SHAPE_ZYX, show_default=True, metavar="Z Y X")
@click.option("--seed", type=int, default=20260, show_default=True, help="Of the simulated tomograms.")
@click.option("--yolo-size", default="l", show_default=True, help="The notebook's YOLO11: n, s, m, l or x.")
@click.option("--windows", type=click.IntRange(2), default=8, show_default=True, help="Of the notebook's, to measure.")
@click.option("--slices", type=click.IntRange(2), default=12, show_default=True, help="Of the notebook's, to measure.")
@click.option("--steps", type=int, default=10, show_default=True, help="Of training.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), default=SHIPPED_WEIGHTS, help="Model folders.")
def main(
    shape: tuple[int, int, int], seed: int, yolo_size: str, windows: int, slices: int, steps: int, weights: Path
) -> None:
    """Measure everything; some ten minutes for full-size tomograms."""
    branches = [name for name in BRANCHES if all((weights / model).is_dir() for model in MODELS[name])]
    if "unet" not in branches:
        raise click.ClickException(f"{weights}: holds no model folder {' or '.join(MODELS['hybrid'])}")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        work = Path(temporary)
        data = work / "tomograms"
        simulated = measure("simulate", data, "--runs", 2, "--seed", seed, "--shape", *shape)
        first = next((data / "static" / "ExperimentRuns").glob("*_0"))
        one: dict[str, Usage] = {}
        for branch in branches:
            predict(
                data, weights, work / "warm.csv", branch, "--run", first.name
            )  # fills the cache of compiled kernels
            one[branch] = predict(data, weights, work / f"{branch}.csv", branch, "--run", first.name)
        two = predict(data, weights, work / "two.csv", branches[0])
        tomogram = first / "VoxelSpacing10.000" / "denoised.zarr"
        notebook = run_notebook(tomogram, work, "--yolo-size", yolo_size, "--windows", windows, "--slices", slices)
        stages = measure("stages", data, "--weights", weights / "unet3d")
        training = measure("training", data, "--steps", steps)
    pace = f"{training['voxels_per_second'] / 1e6:.2f} Mvoxel/s, {training['network_share']:.0%} of the time network"
    said = f"{notebook.seconds:.0f} s"
    rows = [
        (f"zarr to csv, branch {branch}", usage.time, said, f"{notebook.seconds / usage.seconds:.1f}")
        for branch, usage in one.items()
    ]
    rows += [
        (
            f"peak memory, branch {branch}",
            usage.memory,
            f"{notebook.peak_gigabytes:.2f} GB",
            f"{notebook.peak_gigabytes / usage.peak_gigabytes:.1f}",
        )
        for branch, usage in one.items()
    ]
    times = two.seconds / one[branches[0]].seconds
    rows += [
        ("U-Net: reading and normalising", f"{stages['read']:.2f} s", "", ""),
        ("U-Net: equalising", f"{stages['equalise']:.2f} s", "", ""),
        ("U-Net: network", f"{stages['network']:.2f} s", "", ""),
        ("U-Net: localising, suppressing (warm)", f"{stages['localise']:.2f} s, {stages['picks']} picks", "", ""),
        (f"two tomograms, branch {branches[0]}", f"{two.time}, {times:.2f} times one; {two.memory}", "", ""),
        ("simulating one tomogram", f"{sum(simulated['seconds']) / len(simulated['seconds']):.1f} s", "", ""),
        ("training the U-Net", pace, "", ""),
    ]
    click.echo(
        f"\nTomograms of {' x '.join(map(str, shape))} voxels, seed {seed}; {os.cpu_count()} cores, "
        f"{platform.machine()}, torch {version('torch')}. The notebook has random weights, on which its time does not "
        f"depend, YOLO11-{yolo_size} and all of its 4 flips. {notebook.note}\n"
    )
    click.echo("| measured | kaggle-cryoet | notebook | ratio |\n|---|---|---|---|")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
