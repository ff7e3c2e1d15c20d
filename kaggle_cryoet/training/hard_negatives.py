"""Places that a former model took for particles and that are none: what to look at more often."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import HIT_FRACTION_OF_RADIUS
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.submission import read_submission
from kaggle_cryoet.training.volumes import LabelledVolume


def false_picks(found: Picks, truth: Picks) -> NDArray[np.float64]:
    """`(n, 3)` places in Å of those picks that hit no true particle of their type."""
    false = np.ones(len(found), dtype=bool)
    for label, particle in enumerate(PARTICLES):
        chosen, true = found.label == label, truth.position_zyx_angstrom[truth.label == label]
        if chosen.any() and len(true):
            distance, _ = KDTree(true).query(found.position_zyx_angstrom[chosen])
            false[chosen] = distance > HIT_FRACTION_OF_RADIUS * particle.radius_angstrom
    return found.position_zyx_angstrom[false]


def with_hard_places(volumes: Sequence[LabelledVolume], submission: str | Path) -> list[LabelledVolume]:
    """The volumes, with the false picks of a submission as places to look at.

    Raises
    ------
    InputError
        If the submission cannot be read, or has no false pick in any of the volumes.
    """
    found = read_submission(submission)
    hard = []
    for volume in volumes:
        places = false_picks(found[volume.name], volume.picks) if volume.name in found else np.empty((0, 3))
        inside = (places >= 0) & (places <= (np.array(volume.volume.shape) - 1) * volume.voxel_angstrom)
        hard.append(replace(volume, hard_zyx_angstrom=places[inside.all(axis=1)]))
    if not any(len(volume.hard_zyx_angstrom) for volume in hard):
        raise InputError(f"{submission}: has no false pick in any tomogram that is trained on")
    return hard
