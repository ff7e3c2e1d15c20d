import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.targets import TargetSettings, draw_targets

VOXEL_ANGSTROM = 10.012444
SHAPE = (24, 30, 38)


def random_picks(count, shape_zyx, *, seed=0, margin=0.0):
    """Picks of all types within a volume of full-resolution voxels, and up to `margin` voxels beyond it."""
    rng = np.random.default_rng(seed)
    index = rng.uniform(-margin, np.array(shape_zyx) - 1 + margin, (count, 3))
    return Picks(position_zyx_angstrom=index * VOXEL_ANGSTROM, label=rng.integers(len(PARTICLES), size=count))


def brute_force(picks, shape_zyx, stride, origin_zyx=(0, 0, 0)):
    """The highest Gaussian of each type at the centre of each block of voxels, all in Å."""
    centres = [
        (origin + np.arange(size) * stride + (stride - 1) / 2) * VOXEL_ANGSTROM
        for origin, size in zip(origin_zyx, shape_zyx, strict=True)
    ]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    target = np.zeros((len(PARTICLES), *shape_zyx))
    for position, label in zip(picks.position_zyx_angstrom, picks.label, strict=True):
        sigma = max(0.22 * PARTICLES[label].radius_angstrom, 14.0)
        squared = ((grid - position) ** 2).sum(axis=-1)
        target[label] = np.maximum(target[label], np.exp(-squared / (2 * sigma**2)))
    return target


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("origin", [(0, 0, 0), (7, 4, 11)])
def test_targets_are_the_gaussians_of_a_brute_force_drawing(stride, origin):
    picks = random_picks(200, [edge * stride + 20 for edge in SHAPE], margin=12.0)
    target = draw_targets(picks, shape_zyx=SHAPE, stride=stride, voxel_angstrom=VOXEL_ANGSTROM, origin_zyx=origin)
    assert target.dtype == np.float32
    expected = brute_force(picks, SHAPE, stride, origin)
    certain = expected > np.exp(-0.5 * 3.5**2)  # peaks are cut 3.5 standard deviations away
    assert certain.any(axis=(1, 2, 3)).all()
    np.testing.assert_allclose(target[certain], expected[certain], rtol=1e-5)
    assert (target[~certain] <= expected[~certain] * (1 + 1e-5)).all()


def test_a_particle_in_the_middle_of_a_voxel_of_the_grid_has_there_the_value_one():
    picks = Picks(position_zyx_angstrom=np.array([[8.5, 10.5, 20.5]]) * VOXEL_ANGSTROM, label=np.array([3]))
    target = draw_targets(picks, shape_zyx=SHAPE, stride=2, voxel_angstrom=VOXEL_ANGSTROM)
    assert np.unravel_index(target.argmax(), target.shape) == (3, 4, 5, 10)
    assert target.max() == pytest.approx(1.0, abs=1e-6)
    assert not target[[0, 1, 2, 4, 5]].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_peaks_are_where_the_particles_are_below_the_voxel(stride):
    rng = np.random.default_rng(1)
    for label in range(len(PARTICLES)):
        index = rng.uniform(20, 24, 3)
        picks = Picks(position_zyx_angstrom=index[None] * VOXEL_ANGSTROM, label=np.array([label]))
        target = draw_targets(picks, shape_zyx=(48, 50, 52), stride=stride, voxel_angstrom=VOXEL_ANGSTROM)[label]
        weight = target.astype(np.float64) / target.sum(dtype=np.float64)
        coordinates = np.indices(target.shape) * stride + (stride - 1) / 2
        np.testing.assert_allclose((coordinates * weight).sum(axis=(1, 2, 3)), index, atol=0.02)


def test_the_target_of_a_box_is_cut_from_the_target_of_the_whole():
    picks = random_picks(30, (48, 60, 76))
    whole = draw_targets(picks, shape_zyx=SHAPE, stride=2, voxel_angstrom=VOXEL_ANGSTROM)
    box = draw_targets(picks, shape_zyx=(9, 12, 14), stride=2, voxel_angstrom=VOXEL_ANGSTROM, origin_zyx=(6, 16, 34))
    np.testing.assert_allclose(box, whole[:, 3:12, 8:20, 17:31], atol=1e-6)


def test_no_particles_are_a_target_of_zeros():
    nothing = Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))
    target = draw_targets(nothing, shape_zyx=SHAPE, stride=2, voxel_angstrom=VOXEL_ANGSTROM)
    assert target.shape == (6, *SHAPE)
    assert not target.any()


def test_the_width_is_a_share_of_the_radius_but_not_too_small():
    settings = TargetSettings(sigma_of_radius=0.2, least_sigma_angstrom=13.0)
    assert [settings.sigma_angstrom(label) for label in range(6)] == pytest.approx([13, 13, 18, 30, 26, 27])


@pytest.mark.parametrize(
    "settings", [{"sigma_of_radius": 0.0}, {"least_sigma_angstrom": -1.0}, {"sphere_of_radius": 0.0}]
)
def test_impossible_widths_are_an_input_error(settings):
    with pytest.raises(InputError, match="positive"):
        TargetSettings(**settings)


@pytest.mark.parametrize(("stride", "origin"), [(1, (0, 0, 0)), (2, (7, 4, 11))])
def test_spheres_are_the_voxels_within_the_radius_and_the_nearest_one(stride, origin):
    settings = TargetSettings(shape="sphere", sphere_of_radius=0.4)
    picks = random_picks(60, [edge * stride for edge in SHAPE], margin=5.0)
    target = draw_targets(
        picks, shape_zyx=SHAPE, stride=stride, voxel_angstrom=VOXEL_ANGSTROM, origin_zyx=origin, settings=settings
    )
    centres = [
        (start + np.arange(size) * stride + (stride - 1) / 2) * VOXEL_ANGSTROM
        for start, size in zip(origin, SHAPE, strict=True)
    ]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    expected = np.zeros((6, *SHAPE), dtype=np.float32)
    for position, label in zip(picks.position_zyx_angstrom, picks.label, strict=True):
        distance = np.linalg.norm(grid - position, axis=-1)
        expected[label][distance <= 0.4 * PARTICLES[label].radius_angstrom] = 1
    np.testing.assert_array_equal(target, expected)


def test_a_sphere_smaller_than_a_voxel_is_the_voxel_nearest_to_the_particle():
    settings = TargetSettings(shape="sphere", sphere_of_radius=0.01)
    picks = random_picks(40, SHAPE, seed=2)
    target = draw_targets(picks, shape_zyx=SHAPE, stride=1, voxel_angstrom=VOXEL_ANGSTROM, settings=settings)
    expected = np.zeros((6, *SHAPE), dtype=np.float32)
    nearest = np.floor(picks.position_zyx_angstrom / VOXEL_ANGSTROM + 0.5).astype(int)
    expected[(picks.label, *nearest.T)] = 1
    np.testing.assert_array_equal(target, expected)
    assert settings.volume_voxels(0, VOXEL_ANGSTROM) == 1.0


def test_the_volume_of_a_sphere_is_about_the_number_of_its_voxels():
    settings = TargetSettings(shape="sphere")
    picks = Picks(position_zyx_angstrom=np.array([[200.3, 210.1, 220.7]]), label=np.array([3]))
    target = draw_targets(picks, shape_zyx=(40, 42, 44), stride=1, voxel_angstrom=10.0, settings=settings)
    assert settings.volume_voxels(3, 10.0) == pytest.approx(float(target.sum()), rel=0.02)


def test_an_unknown_shape_of_targets_is_an_input_error():
    with pytest.raises(InputError, match="peak or sphere"):
        TargetSettings(shape="cube")
