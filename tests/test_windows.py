import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking.windows import (
    WindowSettings,
    blend_weights,
    extract_window,
    fit_window,
    halve_window,
    round_up,
    window_starts,
)


@st.composite
def axes(draw):
    multiple = draw(st.integers(1, 16))
    size = draw(st.integers(1, 400))
    edge = draw(st.integers(1, 150))
    window, _, _ = fit_window((edge, 1, 1), (size, 1, 1), multiple)
    return size, window, draw(st.floats(0, 0.9)), multiple


@given(axes())
def test_windows_are_aligned_cover_the_axis_and_overlap_enough(axis):
    size, window, overlap, multiple = axis
    starts = window_starts(size, window, overlap=overlap, multiple=multiple)
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] + window == round_up(size, multiple)
    assert (starts % multiple == 0).all()
    assert (steps > 0).all()
    assert (steps <= max(window * (1 - overlap), multiple)).all()
    assert np.ptp(steps) <= multiple if len(steps) else True


@given(axes())
def test_weights_are_positive_and_add_up_to_one_everywhere(axis):
    size, window, overlap, multiple = axis
    starts = window_starts(size, window, overlap=overlap, multiple=multiple)
    weights = blend_weights(starts, window)
    total = np.zeros(round_up(size, multiple))
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    assert weights.min() > 0
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_weights_favour_the_window_whose_centre_is_nearer():
    first, second = blend_weights(np.array([0, 6]), 10)
    np.testing.assert_array_equal(first[:6], 1)  # nobody else sees these voxels
    assert (np.diff(first[6:]) < 0).all()
    np.testing.assert_allclose(first[6:], second[:4][::-1])


def test_a_competition_tomogram_takes_six_windows_of_full_depth_whatever_the_pooling():
    settings = WindowSettings()
    shape = (184, 630, 630)
    for multiple in (2, 4, 8, 16, 32):
        window = fit_window(settings.window_zyx, shape, multiple)
        counts = [
            len(window_starts(size, edge, overlap=settings.overlap, multiple=multiple))
            for size, edge in zip(shape, window, strict=True)
        ]
        assert counts == [1, 3, 2]


def test_a_window_is_rounded_up_to_the_multiple_but_no_longer_than_the_volume_needs():
    assert fit_window((30, 30, 30), (5, 29, 100), 8) == (8, 32, 32)


def test_halving_takes_the_longest_edge_until_none_exceeds_the_minimum():
    assert halve_window((64, 96, 128), 8, 32) == (64, 96, 64)
    assert halve_window((64, 96, 64), 8, 32) == (64, 48, 64)
    assert halve_window((24, 56, 16), 16, 16) == (24, 32, 16)
    assert halve_window((64, 32, 64), 8, 64) is None
    assert halve_window((8, 8, 8), 8, 1) is None


def test_a_window_inside_the_volume_is_its_voxels():
    volume = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    np.testing.assert_array_equal(extract_window(volume, (1, 2, 3), (3, 4, 2)), volume[1:4, 2:6, 3:5])


def test_a_window_over_the_far_ends_is_mirrored_without_repeating_the_edge():
    volume = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    window = extract_window(volume, (0, 2, 4), (7, 6, 4))
    np.testing.assert_array_equal(window, volume[np.ix_([0, 1, 2, 3, 4, 3, 2], [2, 3, 4, 5, 4, 3], [4, 5, 6, 5])])


def test_what_is_mirrored_may_lie_before_the_window():
    volume = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    window = extract_window(volume, (4, 4, 4), (4, 4, 4))
    np.testing.assert_array_equal(window, volume[np.ix_([4, 3, 2, 1], [4, 5, 4, 3], [4, 5, 6, 5])])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 1, 5)])
def test_tiny_volumes_are_mirrored_as_often_as_needed(shape):
    volume = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    window = extract_window(volume, (0, 0, 0), (8, 8, 8))
    mirrored = [np.abs((np.arange(8) + n - 1) % max(2 * n - 2, 1) - (n - 1)) for n in shape]
    np.testing.assert_array_equal(window, volume[np.ix_(*mirrored)])


@pytest.mark.parametrize("settings", [{"window_zyx": (8, 0, 8)}, {"overlap": 1.0}, {"overlap": -0.1}])
def test_impossible_settings_are_an_input_error(settings):
    with pytest.raises(InputError):
        WindowSettings(**settings)


def test_by_default_windows_overlap_where_they_could_just_touch():
    starts = window_starts(480, 240, overlap=WindowSettings().overlap, multiple=16)
    assert len(starts) == 3
    assert all(later - first <= 240 - 30 for first, later in itertools.pairwise(starts))
