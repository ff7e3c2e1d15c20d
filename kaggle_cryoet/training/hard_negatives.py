"""Places that a former model took for particles and that are none: what to look at more often."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import NO_PICKS
from kaggle_cryoet.submission import read_submission
from kaggle_cryoet.training.calibration import find_hits
from kaggle_cryoet.training.volumes import LabelledVolume


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
        picks = found.get(volume.name, NO_PICKS)
        if volume.exchanged:
            picks = picks.with_y_and_x_exchanged()
        places = picks.position_zyx_angstrom[~find_hits(picks, volume.picks)]
        inside = (places >= 0) & (places <= (np.array(volume.volume.shape) - 1) * volume.voxel_angstrom)
        hard.append(replace(volume, hard_zyx_angstrom=places[inside.all(axis=1)]))
    if not any(len(volume.hard_zyx_angstrom) for volume in hard):
        raise InputError(f"{submission}: has no false pick in any tomogram that is trained on")
    return hard
