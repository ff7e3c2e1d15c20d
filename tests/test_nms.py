import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking import nms
from kaggle_cryoet.picking.nms import suppress


def suppress_by_brute_force(position, score, radius):
    kept = []
    for i in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        if all(((position[i] - position[j]) ** 2).sum() >= radius**2 for j in kept):
            kept.append(i)
    return kept


@st.composite
def scored_points(draw):
    count = draw(st.integers(0, 60))
    # whole numbers make equal scores and distances of exactly the radius common
    position = draw(arrays(np.float64, (count, 3), elements=st.integers(-9, 9).map(float)))
    score = draw(arrays(np.float64, count, elements=st.integers(0, 5).map(float)))
    return position * draw(st.sampled_from([1.0, 7.0])), score, draw(st.sampled_from([0.5, 1.0, 2.0, 5.0, 7.0, 40.0]))


@settings(deadline=None)  # the first example compiles
@given(scored_points())
def test_the_same_points_are_kept_as_by_comparing_each_with_each(points):
    position, score, radius = points
    assert suppress(position, score, radius).tolist() == suppress_by_brute_force(position, score, radius)


def test_crowded_points_at_random_are_kept_as_by_brute_force():
    rng = np.random.default_rng(0)
    position, score = rng.random((800, 3)) * [50, 100, 200], rng.random(800)
    kept = suppress(position, score, 12.5)
    assert kept.dtype == np.int64
    assert kept.tolist() == suppress_by_brute_force(position, score, 12.5)


def test_the_kernel_is_the_python_it_is_written_in(monkeypatch):
    rng = np.random.default_rng(1)
    position, score = rng.random((60, 3)) * [5, 10, 20], rng.random(60)
    compiled = suppress(position, score, 3.0)
    monkeypatch.setattr(nms, "_keep_greedily", nms._keep_greedily.py_func)
    np.testing.assert_array_equal(suppress(position, score, 3.0), compiled)


def test_a_point_at_exactly_the_radius_stays_and_a_closer_one_goes():
    position = np.array([[0, 0, 0], [0, 3, 4], [0, 0, -4.999]])
    assert suppress(position, np.array([1.0, 0.9, 0.8]), 5.0).tolist() == [0, 1]


def test_of_equal_scores_the_first_stays():
    position = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3.5]])
    assert suppress(position, np.ones(3), 1.0).tolist() == [0]


def test_a_dropped_point_drops_no_other():
    position = np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 6]])
    assert suppress(position, np.array([3.0, 2.0, 1.0]), 4.0).tolist() == [0, 2]


def test_points_far_apart_for_a_small_radius_need_little_memory():
    position = np.random.default_rng(2).random((500, 3)) * 1e7
    assert len(suppress(position, np.arange(500.0), 1e-3)) == 500


def test_no_points_give_no_points():
    assert suppress(np.empty((0, 3)), np.empty(0), 1.0).shape == (0,)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_radius_that_is_not_positive_is_an_input_error(radius):
    with pytest.raises(InputError, match="radius"):
        suppress(np.zeros((1, 3)), np.ones(1), radius)


def test_points_and_scores_that_do_not_match_are_an_input_error():
    with pytest.raises(InputError, match="one zyx position for each score"):
        suppress(np.zeros((2, 3)), np.ones(3), 1.0)
