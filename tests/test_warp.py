"""Turned and scaled crops: voxels against SciPy, particles against the voxels they are drawn into."""

import numpy as np
import pytest
from scipy import ndimage

from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.targets import TargetSettings, draw_targets
from kaggle_cryoet.training.warp import crop_voxel_angstrom, move_picks, read_warped, warp_matrix

VOXEL_ANGSTROM = 10.012444
VOLUME = (46, 60, 72)
SHAPE = np.array([20, 28, 24])
WIDE = TargetSettings(sigma_of_radius=0.01, least_sigma_angstrom=60.0)


def example(seed=0, count=30):
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, np.array(VOLUME) - 1, (count, 3)) * VOXEL_ANGSTROM
    return rng.normal(size=VOLUME).astype(np.float16), Picks(
        position_zyx_angstrom=position, label=rng.integers(6, size=count)
    )


@pytest.mark.parametrize("start", [(13, 17, 21), (0, 0, 0), (26, 32, 48)])
@pytest.mark.parametrize(("degrees", "scale"), [(0.0, 1.0), (9.0, 1.04), (-33.0, 0.9)])
def test_a_warped_crop_is_scipys_affine_transform(start, degrees, scale):
    volume, _ = example()
    warp = warp_matrix(degrees, scale)
    crop = read_warped(volume, np.array(start), SHAPE, warp)
    half = (SHAPE - 1) / 2
    expected = ndimage.affine_transform(
        volume.astype(np.float32),
        warp,
        offset=np.array(start) + half - warp @ half,
        output_shape=tuple(SHAPE),
        order=1,
        mode="mirror",
    )
    assert crop.dtype == np.float32
    np.testing.assert_allclose(crop, expected, atol=2e-5)


def test_without_a_warp_a_crop_is_cut_out_and_mirrored_beyond_the_faces():
    volume, _ = example()
    start, shape = np.array([40, 5, 70]), np.array([30, 10, 20])
    padded = np.pad(volume, [(0, 40), (0, 0), (0, 40)], mode="reflect").astype(np.float32)
    crop = read_warped(volume, start, shape, None)
    np.testing.assert_array_equal(crop, padded[40:70, 5:15, 70:90])


@pytest.mark.parametrize("start", [(13, 17, 21), (0, 0, 0), (26, 32, 48)])
@pytest.mark.parametrize(("degrees", "scale"), [(9.0, 1.0), (0.0, 1.04), (0.0, 0.96), (-8.0, 1.03), (40.0, 0.8)])
@pytest.mark.parametrize("stride", [1, 2])
def test_drawing_warped_picks_is_warping_what_was_drawn(start, degrees, scale, stride):
    _, picks = example()
    warp, start_zyx = warp_matrix(degrees, scale), np.array(start)
    moved = move_picks(picks, VOXEL_ANGSTROM, VOLUME, start_zyx, SHAPE, warp)
    drawn = draw_targets(
        moved,
        shape_zyx=tuple(SHAPE // stride),
        stride=stride,
        voxel_angstrom=crop_voxel_angstrom(VOXEL_ANGSTROM, warp),
        settings=WIDE,
    )
    whole = draw_targets(picks, shape_zyx=VOLUME, stride=1, voxel_angstrom=VOXEL_ANGSTROM, settings=WIDE)
    warped = np.stack([read_warped(target, start_zyx, SHAPE, warp) for target in whole])
    if stride == 2:  # the middle of each block
        z, y, x = SHAPE // 2
        warped = warped.reshape(6, z, 2, y, 2, x, 2).mean(axis=(2, 4, 6))
    assert drawn.max() > 0.8  # the grid may miss the middle of a peak
    error = np.abs(drawn - warped)[np.maximum(drawn, warped) > 0.02]  # peaks are cut
    assert error.mean() < 0.01  # half a voxel off would be 0.03
    assert error.max() < 0.08  # where two peaks meet, half way between voxels


def test_a_quarter_turn_takes_y_to_x_and_particles_with_it():
    volume, _ = example()
    size, start = np.array([9, 15, 15]), np.array([10, 20, 30])
    warp = warp_matrix(90.0, 1.0)
    crop = read_warped(volume, start, size, warp)
    box = volume[10:19, 20:35, 30:45].astype(np.float32)
    np.testing.assert_allclose(crop, np.rot90(box, 1, axes=(1, 2)), atol=1e-5)
    particle = Picks(position_zyx_angstrom=np.array([[12, 22, 31]]) * VOXEL_ANGSTROM, label=np.array([0]))
    moved = move_picks(particle, VOXEL_ANGSTROM, VOLUME, start, size, warp).position_zyx_angstrom / VOXEL_ANGSTROM
    z, y, x = np.rint(moved[0]).astype(int)
    np.testing.assert_allclose(moved[0], [z, y, x], atol=1e-9)
    assert crop[z, y, x] == pytest.approx(float(volume[12, 22, 31]), abs=1e-5)


def test_a_scaled_crop_shows_particles_larger():
    picks = Picks(position_zyx_angstrom=np.array([[20.0, 30.0, 40.0]]) * VOXEL_ANGSTROM, label=np.array([3]))
    start = np.array([10, 16, 28])
    for scale in (0.9, 1.1):
        warp = warp_matrix(0.0, scale)
        target = draw_targets(
            move_picks(picks, VOXEL_ANGSTROM, VOLUME, start, SHAPE, warp),
            shape_zyx=tuple(SHAPE),
            stride=1,
            voxel_angstrom=crop_voxel_angstrom(VOXEL_ANGSTROM, warp),
        )
        expected = (2 * np.pi) ** 1.5 * (scale * 0.22 * 150 / VOXEL_ANGSTROM) ** 3
        assert float(target.sum()) == pytest.approx(expected, rel=0.02)
