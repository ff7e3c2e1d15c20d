"""`Picks`, and what is done with them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks, check_inside, concatenate


def make_picks(label: list[int], *, seed: int = 0, with_orientation: bool = False) -> Picks:
    rng = np.random.default_rng(seed)
    return Picks(
        position_zyx_angstrom=rng.uniform(0, [1800, 6000, 5000], size=(len(label), 3)).round(3),
        label=np.array(label, dtype=np.int64),
        score=rng.uniform(size=len(label)),
        orientation_zyx=Rotation.random(len(label), rng=rng).as_matrix() if with_orientation else None,
    )


def test_picks_check_that_their_arrays_fit_together() -> None:
    with pytest.raises(InputError, match="one label and one score each"):
        Picks(position_zyx_angstrom=np.zeros((2, 3)), label=np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="1 picks have a position that is not finite"):
        Picks(position_zyx_angstrom=np.array([[1.0, np.nan, 2.0]]), label=np.array([0]))
    with pytest.raises(InputError, match="labels run from 0 to 5, got 6 to 6"):
        Picks(position_zyx_angstrom=np.zeros((1, 3)), label=np.array([6]))
    with pytest.raises(InputError, match="labels run from 0 to 5, got -1 to 2"):
        Picks(position_zyx_angstrom=np.zeros((2, 3)), label=np.array([-1, 2]))
    with pytest.raises(InputError, match="orientations must be of shape"):
        Picks(position_zyx_angstrom=np.zeros((2, 3)), label=np.array([0, 1]), orientation_zyx=np.eye(3)[None])


def test_selected_picks_keep_all_that_belongs_to_them() -> None:
    picks = make_picks([0, 3, 5, 3], with_orientation=True)
    chosen = picks.select(picks.label == 3)
    assert len(chosen) == 2
    assert picks.orientation_zyx is not None
    assert chosen.orientation_zyx is not None
    np.testing.assert_array_equal(chosen.position_zyx_angstrom, picks.position_zyx_angstrom[[1, 3]])
    np.testing.assert_array_equal(chosen.score, picks.score[[1, 3]])
    np.testing.assert_array_equal(chosen.orientation_zyx, picks.orientation_zyx[[1, 3]])


def test_concatenated_picks_come_in_the_order_of_the_parts() -> None:
    first, second = make_picks([0, 3], with_orientation=True), make_picks([5], seed=1, with_orientation=True)
    together = concatenate([first, make_picks([]), second])
    assert together.label.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(together.position_zyx_angstrom[2], second.position_zyx_angstrom[0])
    np.testing.assert_array_equal(together.score[:2], first.score)
    assert together.orientation_zyx is not None
    assert together.orientation_zyx.shape == (3, 3, 3)
    assert concatenate([first, make_picks([1])]).orientation_zyx is None
    assert len(concatenate([])) == 0


def test_picks_outside_the_volume_are_refused() -> None:
    def at(*position_zyx: float) -> Picks:
        return Picks(position_zyx_angstrom=np.array([position_zyx]), label=np.array([0]))

    shape_zyx, voxel_angstrom = (5, 7, 9), 10.0
    check_inside(at(-5, 0, 0), shape_zyx, voxel_angstrom, "TS_1")
    check_inside(at(45, 65, 85), shape_zyx, voxel_angstrom, "TS_1")
    check_inside(make_picks([]), shape_zyx, voxel_angstrom, "TS_1")
    for position in ((46, 0, 0), (0, 66, 0), (0, 0, 86), (0, 0, -6)):
        with pytest.raises(InputError, match=r"TS_1: 1 of 1 picks lie outside the volume of \(5, 7, 9\) voxels"):
            check_inside(at(*position), shape_zyx, voxel_angstrom, "TS_1")


def test_picks_in_voxels_are_told(caplog: pytest.LogCaptureFixture) -> None:
    voxels = np.random.default_rng(0).uniform(0, 1, (6, 3)) * [184, 630, 630]
    for factor, told in ((1.0, True), (10.0, False)):
        caplog.clear()
        picks = Picks(position_zyx_angstrom=factor * voxels, label=np.zeros(6))
        check_inside(picks, (184, 630, 630), 10.0, "TS_1")
        assert ("TS_1: all 6 picks lie in one corner of the volume; are they in voxels?" in caplog.text) is told
