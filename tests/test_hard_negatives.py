"""False picks of a former model, against distances one by one."""

from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.submission import write_submission
from kaggle_cryoet.training.crops import CropDataset, CropSettings
from kaggle_cryoet.training.hard_negatives import with_hard_places
from kaggle_cryoet.training.volumes import LabelledVolume

SHAPE = (40, 50, 60)


def picks_of(count: int, seed: int) -> Picks:
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, (np.array(SHAPE) - 1) * 10.0, (count, 3))
    return Picks(position_zyx_angstrom=position, label=rng.integers(6, size=count))


def volume_of(name: str, truth: Picks) -> LabelledVolume:
    return LabelledVolume(name=name, volume=np.zeros(SHAPE, dtype=np.float16), picks=truth, voxel_angstrom=10.0)


def test_hard_places_are_those_of_picks_that_hit_no_particle_of_their_type(tmp_path: Path) -> None:
    found, truth = picks_of(300, 0), picks_of(200, 1)
    expected = []
    for position, label in zip(found.position_zyx_angstrom, found.label, strict=True):
        same = truth.position_zyx_angstrom[truth.label == label]
        distance = np.linalg.norm(same - position, axis=1)
        if not (distance <= 0.5 * PARTICLES[label].radius_angstrom).any():
            expected.append(position)
    assert 50 < len(expected) < 300
    write_submission(tmp_path / "submission.csv", {"a": found})
    (volume,) = with_hard_places([volume_of("a", truth)], tmp_path / "submission.csv")
    np.testing.assert_allclose(volume.hard_zyx_angstrom, expected, atol=0.001)


def test_a_share_of_the_crops_holds_a_false_pick(tmp_path: Path) -> None:
    truth = Picks(position_zyx_angstrom=np.array([[100.0, 100.0, 100.0]]), label=np.array([3]))
    false = Picks(position_zyx_angstrom=np.array([[300.0, 400.0, 500.0], [100.0, 110.0, 100.0]]), label=[3, 3])
    write_submission(tmp_path / "submission.csv", {"a": false, "elsewhere": false})
    volumes = with_hard_places([volume_of("a", truth), volume_of("b", truth)], tmp_path / "submission.csv")
    assert [volume.hard_zyx_angstrom.tolist() for volume in volumes] == [[[300.0, 400.0, 500.0]], []]
    settings = CropSettings(shape_zyx=(8, 10, 12), hard_fraction=0.25, particle_fraction=1.0)
    dataset = CropDataset(volumes, length=10, stride=2, seed=0, settings=settings)
    places = [dataset._place(np.random.default_rng((0, number))) for number in range(600)]
    offset = np.array([30, 40, 50]) - [start for _, start in places]
    hard = ((offset >= 0) & (offset < [8, 10, 12])).all(axis=1)
    assert hard.mean() == pytest.approx(0.25, abs=0.05)
    assert all(volume.name == "a" for (volume, _), is_hard in zip(places, hard, strict=True) if is_hard)


def test_a_submission_without_false_picks_is_an_input_error(tmp_path: Path) -> None:
    truth = picks_of(20, 1)
    write_submission(tmp_path / "submission.csv", {"a": truth})
    with pytest.raises(InputError, match="no false pick"):
        with_hard_places([volume_of("a", truth)], tmp_path / "submission.csv")
