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

SHIPPED_WEIGHTS = Path(__file__).parent.parent / "kaggle_cryoet" / "weights" / "unet3d"
REAL_SHAPE_ZYX = (184, 630, 630)


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


def predict(folder: Path, weights: Path, output: Path, *options: str) -> Usage:
    """Pick the tomograms in a folder with the command line."""
    click.echo("measuring: predict ...", err=True)
    arguments = ("predict", folder, "--branch", "unet", "--device", "cpu", "--weights", weights, "--output", output)
    return run_process("kaggle_cryoet", *arguments, *options)


@click.command()
@click.option("--shape", nargs=3, type=int, default=REAL_SHAPE_ZYX, show_default=True, metavar="Z Y X")
@click.option("--seed", type=int, default=20260, show_default=True, help="Of the simulated tomograms.")
@click.option("--flips", type=click.IntRange(1, 4), default=1, show_default=True, help="The notebook's augmentation.")
@click.option("--steps", type=int, default=10, show_default=True, help="Of training.")
def main(shape: tuple[int, int, int], seed: int, flips: int, steps: int) -> None:
    """Measure everything; a few minutes for full-size tomograms."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        work = Path(temporary)
        data = work / "tomograms"
        is_shipped = (SHIPPED_WEIGHTS / "model.json").is_file()
        weights = SHIPPED_WEIGHTS if is_shipped else work / "unet3d"
        if not is_shipped:
            measure("random-model", weights)
        simulated = measure("simulate", data, "--runs", 2, "--seed", seed, "--shape", *shape)
        first = next((data / "static" / "ExperimentRuns").glob("*_0"))
        predict(data, weights, work / "warm.csv", "--run", first.name)  # fills the cache of compiled kernels
        one = predict(data, weights, work / "one.csv", "--run", first.name)
        two = predict(data, weights, work / "two.csv")
        click.echo("measuring: the notebook ...", err=True)
        path = first / "VoxelSpacing10.000" / "denoised.zarr"
        notebook = run_process("benchmarks.plain_notebook", path, "--output", work / "n.csv", "--flips", flips)
        stages = measure("stages", data, "--weights", weights)
        training = measure("training", data, "--steps", steps)
    pace = f"{training['voxels_per_second'] / 1e6:.2f} Mvoxel/s, {training['network_share']:.0%} of the time network"
    rows = [
        ("zarr to csv, one tomogram", one.time, notebook.time, f"{notebook.seconds / one.seconds:.1f}"),
        ("its peak memory", one.memory, notebook.memory, f"{notebook.peak_gigabytes / one.peak_gigabytes:.1f}"),
        ("of it: reading and normalising", f"{stages['read']:.2f} s", "", ""),
        ("of it: network", f"{stages['network']:.2f} s", "", ""),
        ("of it: localising, suppressing (warm)", f"{stages['localise']:.2f} s, {stages['picks']} picks", "", ""),
        ("zarr to csv, two tomograms", f"{two.time}, {two.seconds / one.seconds:.2f} times one", "", ""),
        ("their peak memory", two.memory, "", ""),
        ("simulating one tomogram", f"{sum(simulated['seconds']) / len(simulated['seconds']):.1f} s", "", ""),
        ("training", pace, "", ""),
    ]
    click.echo(
        f"\nTomograms of {' x '.join(map(str, shape))} voxels, seed {seed}; {os.cpu_count()} cores, "
        f"{platform.machine()}, torch {version('torch')}; {'shipped' if is_shipped else 'random'} weights, on whose "
        f"values only the number of picks depends; the notebook with {flips} of its 4 flips\n"
    )
    click.echo("| measured | kaggle-cryoet | plain notebook | ratio |\n|---|---|---|---|")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
