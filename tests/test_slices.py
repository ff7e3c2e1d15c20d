"""Slices as a detector sees them: grey levels, and the channels of an image."""

import numpy as np
import pytest

from kaggle_cryoet.models.yolo11 import YoloSettings
from kaggle_cryoet.picking.slices import slice_image, to_levels

SETTINGS = YoloSettings(darkest=-7.0, brightest=3.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_window_of_grey_values_becomes_0_to_255(dtype: type) -> None:
    volume = np.array([-12, -7, -6.98, -2, 0, 2.99, 3, 8], dtype=dtype).reshape(1, 2, 4)
    levels = to_levels(volume, SETTINGS)
    assert levels.dtype == np.uint8
    assert levels.shape == (1, 2, 4)
    assert levels.ravel()[[0, 1, 6, 7]].tolist() == [0, 0, 255, 255]
    assert abs(int(levels.ravel()[3]) - 127.5) <= 0.5
    assert levels.ravel()[4] == round(255 * 0.7)
    assert (np.diff(levels.ravel().astype(int)) >= 0).all()


def test_levels_are_even_steps_and_the_volume_is_left_alone(volume: np.ndarray) -> None:
    before = volume.copy()
    levels = to_levels(volume, SETTINGS)
    np.testing.assert_array_equal(volume, before)
    np.testing.assert_allclose(levels / 25.5 - 7, np.clip(volume, -7, 3), atol=0.5 / 25.5 + 1e-5)


def test_channels_are_the_neighbours_and_at_the_ends_the_last_slice_there_is() -> None:
    levels = np.broadcast_to(np.arange(7, dtype=np.uint8)[:, None, None], (7, 3, 5))
    shown = {z: slice_image(levels, z, YoloSettings(neighbour_voxels=2))[:, 1, 4].tolist() for z in (0, 1, 3, 6)}
    assert shown == {0: [0, 0, 2], 1: [0, 1, 3], 3: [1, 3, 5], 6: [4, 6, 6]}
    assert slice_image(levels, 3, YoloSettings()).shape == (3, 3, 5)


def test_without_neighbours_an_image_is_one_slice_three_times(volume: np.ndarray) -> None:
    levels = to_levels(volume, SETTINGS)
    image = slice_image(levels, 4, YoloSettings(neighbour_voxels=0))
    for channel in image:
        np.testing.assert_array_equal(channel, levels[4])


def test_a_single_slice_is_its_own_neighbour() -> None:
    levels = np.full((1, 4, 6), 9, dtype=np.uint8)
    assert (slice_image(levels, 0, YoloSettings(neighbour_voxels=3)) == 9).all()
