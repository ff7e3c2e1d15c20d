"""Between voxels and Å, zyx and xyz, fine and coarse grids."""

import numpy as np

from kaggle_cryoet import geometry


def test_the_first_voxel_is_at_zero_and_the_next_one_voxel_size_away() -> None:
    position = geometry.index_to_angstrom(np.array([[0, 0, 0], [1, 2, 3]]), 10.5)
    np.testing.assert_array_equal(position, [[0, 0, 0], [10.5, 21.0, 31.5]])


def test_positions_come_back_from_their_indices() -> None:
    position = np.array([[184.25, 629.5, -3.0]])
    index = geometry.angstrom_to_index(position, geometry.CZII_VOXEL_ANGSTROM)
    np.testing.assert_allclose(geometry.index_to_angstrom(index, geometry.CZII_VOXEL_ANGSTROM), position, rtol=1e-15)


def test_ten_instead_of_the_true_voxel_size_drifts_by_a_quarter_of_the_smallest_tolerance() -> None:
    drift = geometry.index_to_angstrom(np.array([630.0]), geometry.CZII_VOXEL_ANGSTROM - 10)
    np.testing.assert_allclose(drift, 7.84, atol=0.01)


def test_reversed_axes_turn_zyx_into_xyz_and_back() -> None:
    position_zyx = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    position_xyz = geometry.reverse_axes(position_zyx)
    np.testing.assert_array_equal(position_xyz, [[3, 2, 1], [6, 5, 4]])
    np.testing.assert_array_equal(geometry.reverse_axes(position_xyz), position_zyx)


def test_a_rotation_with_reversed_axes_turns_the_reversed_vector() -> None:
    quarter_turn_about_z_xyz = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rotation_zyx = geometry.reverse_rotation_axes(quarter_turn_about_z_xyz)
    x_axis_zyx, y_axis_zyx = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    np.testing.assert_array_equal(rotation_zyx @ x_axis_zyx, y_axis_zyx)


def test_a_coarse_voxel_lies_at_the_mean_index_of_the_voxels_it_covers() -> None:
    for stride in (1, 2, 3):
        covered = np.arange(12.0).reshape(-1, stride)
        coarse = np.arange(float(len(covered)))
        np.testing.assert_allclose(geometry.coarse_to_fine_index(coarse, stride), covered.mean(axis=1))
        np.testing.assert_allclose(geometry.fine_to_coarse_index(covered.mean(axis=1), stride), coarse)
