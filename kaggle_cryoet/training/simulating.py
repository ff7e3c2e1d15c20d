"""The processes that simulate the tomograms of a stream."""

import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch

from kaggle_cryoet import simulation
from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.picking.drift import without_drift
from kaggle_cryoet.processes import end_with_parent
from kaggle_cryoet.simulation.network_denoising import draw_denoising
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.training.volumes import normalised_volume

if TYPE_CHECKING:
    from kaggle_cryoet.training.stream import Stream

PICKS = "Picks"


def simulator_digest() -> str:
    """What tells this simulator from one of other code or other structures."""
    digest = hashlib.sha256()
    for path in sorted(Path(simulation.__file__).parent.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def stay_back(threads: int) -> None:
    """Leave the processors to the training, and Ctrl-C to the process that asks; end when that does."""
    end_with_parent()
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    numba.set_num_threads(min(threads, numba.get_num_threads()))


def simulate_specimen(stream: "Stream", number: int) -> None:
    """Simulate a specimen, unless it is there, and write its tomograms as they are drawn from."""
    from kaggle_cryoet.simulation.dataset import simulate_tomograms

    path, chosen = stream.path(number), stream.settings
    if path.exists():
        return
    ranges = NUISANCE_RANGES[chosen.setting]
    tomograms, picks, _ = simulate_tomograms(
        stream.name(number),
        seed=(stream.seed, number),
        shape_zyx=chosen.shape_zyx,
        nuisances=ranges.draw_of_set(stream.seed, number, difficulty=stream.difficulty(number)),
        tomogram_types=tuple(stream.weight_of_type),
        denoising=draw_denoising(chosen.denoiser, stream.seed, number),
    )
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for tomogram_type, tomogram in tomograms.items():
        level = without_drift(tomogram.data, tomogram.voxel_angstrom, tomogram.name)  # as what is read
        volume = normalised_volume(level, spectrum=stream.spectrum, share=stream.share(number))
        np.save(unfinished / f"{tomogram_type}.npy", volume)
    write_copick(unfinished / PICKS, picks, stream.name(number))
    unfinished.rename(path)
