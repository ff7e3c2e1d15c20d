import numpy as np
import pytest
from scipy import ndimage

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picking import localise
from kaggle_cryoet.picking.localise import ball_offsets, blob_centroids, local_maxima

SHAPE = (26, 37, 48)


def planted_gaussians(sigma=1.7, *, seed=0, shape=SHAPE, spacing=11):
    """Gaussians at fractional positions that do not touch, and the positions from the highest to the lowest."""
    rng = np.random.default_rng(seed)
    corner = np.stack(np.meshgrid(*(np.arange(5, n - 5, spacing) for n in shape), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    position = corner + rng.uniform(-0.5, 0.5, corner.shape)
    height = np.linspace(1, 0.5, len(position))
    grid = np.indices(shape)
    score = np.zeros(shape)
    for centre, peak in zip(position, height, strict=True):
        distance_squared = ((grid - centre[:, None, None, None]) ** 2).sum(axis=0)
        score = np.maximum(score, peak * np.exp(-distance_squared / (2 * sigma**2)))
    return score.astype(np.float32), position


def footprint(radius):
    reach = int(radius)
    z, y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    return z * z + y * y + x * x <= radius * radius


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 3.7])
def test_maxima_are_where_a_maximum_filter_with_a_spherical_footprint_changes_nothing(radius):
    score = np.random.default_rng(0).random((14, 19, 23), dtype=np.float32)
    filtered = ndimage.maximum_filter(score, footprint=footprint(radius), mode="constant", cval=-1)
    expected = (score == filtered) & (score > 0.6)
    np.testing.assert_array_equal(localise._mark_maxima(score, 0.6, ball_offsets(radius)), expected)
    position, value = local_maxima(score, threshold=0.6, radius_voxels=radius)
    np.testing.assert_allclose(position, np.argwhere(expected), atol=0.5)
    np.testing.assert_array_equal(value, score[expected].astype(np.float64))


def test_the_kernels_are_the_python_they_are_written_in(monkeypatch):
    score = np.random.default_rng(1).random((6, 7, 8), dtype=np.float32).round(1)  # with ties
    compiled = local_maxima(score, threshold=0.5, radius_voxels=1.8)
    for kernel in ("_mark_maxima", "_refine", "_middle_of_equals", "_vertex"):
        monkeypatch.setattr(localise, kernel, getattr(localise, kernel).py_func)
    interpreted = local_maxima(score, threshold=0.5, radius_voxels=1.8)
    np.testing.assert_allclose(interpreted[0], compiled[0], atol=1e-12)
    np.testing.assert_array_equal(interpreted[1], compiled[1])


def test_ball_offsets_are_all_voxels_of_the_ball_but_its_centre_nearest_first():
    offset = ball_offsets(2.3)
    assert len(offset) == footprint(2.3).sum() - 1
    assert len(np.unique(offset, axis=0)) == len(offset)
    distance_squared = (offset**2).sum(axis=1)
    assert (np.diff(distance_squared) >= 0).all()
    assert distance_squared[0] == 1
    assert distance_squared[-1] <= 2.3**2


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float16, 0.02)])
def test_planted_gaussians_are_found_below_the_voxel(dtype, tolerance):
    score, position = planted_gaussians()
    found, value = local_maxima(score.astype(dtype), threshold=0.2, radius_voxels=3)
    nearest = np.linalg.norm(found[:, None] - position, axis=-1).argmin(axis=1)
    assert sorted(nearest) == list(range(len(position)))
    residual = found - position[nearest]
    assert np.abs(residual).max() < tolerance
    assert value.dtype == found.dtype == np.float64


def test_gaussians_in_noise_are_found_without_bias_along_any_axis():
    score, position = planted_gaussians()
    noisy = score + np.random.default_rng(2).normal(0, 0.02, SHAPE).astype(np.float32)
    found, _ = local_maxima(noisy, threshold=0.3, radius_voxels=3)
    nearest = np.linalg.norm(found[:, None] - position, axis=-1).argmin(axis=1)
    assert sorted(nearest) == list(range(len(position)))
    residual = found - position[nearest]
    assert np.abs(residual.mean(axis=0)).max() < 0.1
    assert residual.std(axis=0).max() < 0.2


@pytest.mark.parametrize("edge", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 1, 3), (3, 3, 3)])
def test_a_plateau_is_one_maximum_in_its_middle(edge):
    score = np.zeros((12, 13, 14), dtype=np.float32)
    first = np.array([4, 5, 6])
    score[tuple(slice(a, a + n) for a, n in zip(first, edge, strict=True))] = 0.9
    score = ndimage.gaussian_filter(score, 0)  # unchanged: flat inside, zero outside
    position, value = local_maxima(score, threshold=0.5, radius_voxels=4)
    np.testing.assert_allclose(position, [first + (np.array(edge) - 1) / 2])
    assert value == pytest.approx([0.9])


def test_a_peak_that_saturates_in_float16_is_still_found_in_its_middle():
    distance_squared = ((np.indices((15, 16, 17)) - np.array([7, 8, 9])[:, None, None, None]) ** 2).sum(axis=0)
    score = (1 / (1 + np.exp(distance_squared - 14.0))).astype(np.float16)
    assert (score == score.max()).sum() > 27
    position, value = local_maxima(score, threshold=0.5, radius_voxels=4)
    np.testing.assert_allclose(position, [[7, 8, 9]], atol=0.01)
    assert value.tolist() == [1.0]


def test_a_maximum_at_the_border_stays_on_it():
    score = np.zeros((4, 5, 6), dtype=np.float32)
    score[0, 2, 5] = 1
    score[0, 3, 5] = 0.5
    position, _ = local_maxima(score, threshold=0.1, radius_voxels=2)
    assert position[0, 0] == 0
    assert position[0, 2] == 5
    assert 2 < position[0, 1] < 2.5


def test_negative_scores_are_refined_by_a_plain_parabola():
    x = np.arange(9.0)
    score = np.full((5, 6, 9), -90.0, dtype=np.float32)
    score[2, 3] = -1 - (x - 4.3) ** 2
    position, value = local_maxima(score, threshold=-2, radius_voxels=2)
    np.testing.assert_allclose(position, [[2, 3, 4.3]], atol=1e-5)
    np.testing.assert_allclose(value, [-1.09], atol=1e-6)


def test_a_threshold_selects_what_selecting_by_score_would():
    score = ndimage.gaussian_filter(np.random.default_rng(3).random(SHAPE, dtype=np.float32), 1)
    low, high = 0.5, 0.6
    all_positions, all_values = local_maxima(score, threshold=low, radius_voxels=2)
    positions, values = local_maxima(score, threshold=high, radius_voxels=2)
    assert 0 < len(values) < len(all_values)
    np.testing.assert_array_equal(positions, all_positions[all_values > high])
    np.testing.assert_array_equal(values, all_values[all_values > high])


def test_nan_is_never_a_maximum():
    score = np.full((3, 4, 5), np.nan, dtype=np.float32)
    score[1, 2, 3] = 0.7
    position, _ = local_maxima(score, threshold=0, radius_voxels=1)
    assert position.shape == (1, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_blob_centroids_are_those_of_scipy(dtype):
    score = ndimage.gaussian_filter(np.random.default_rng(4).random(SHAPE, dtype=np.float32), 1.2)
    score = ((score - score.min()) / np.ptp(score)).astype(dtype)
    position, value = blob_centroids(score, threshold=0.7, minimum_voxels=10)
    labelled, count = ndimage.label(score > 0.7, structure=np.ones((3, 3, 3)))
    labels = [label for label in range(1, count + 1) if (labelled == label).sum() >= 10]
    assert 1 < len(labels) < count
    expected = np.array(ndimage.center_of_mass(labelled > 0, labelled, labels))
    highest = ndimage.maximum(score.astype(np.float64), labelled, labels)
    order, expected_order = np.lexsort(position.T), np.lexsort(expected.T)
    np.testing.assert_allclose(position[order], expected[expected_order], atol=1e-5)
    np.testing.assert_array_equal(value[order], np.asarray(highest)[expected_order])
    assert position.dtype == value.dtype == np.float64


def test_blobs_that_touch_at_a_corner_are_one_and_maxima_keep_them_apart():
    score = np.zeros((9, 10, 11), dtype=np.float32)
    score[1:4, 2:5, 3:6] = 0.6
    score[4:7, 5:8, 6:9] = 0.6
    score[2, 3, 4], score[5, 6, 7] = 0.9, 0.8
    position, value = blob_centroids(score, threshold=0.5, minimum_voxels=1)
    np.testing.assert_allclose(position, [[3.5, 4.5, 5.5]])
    assert value == pytest.approx([0.9])
    position, value = local_maxima(score, threshold=0.5, radius_voxels=3)
    np.testing.assert_allclose(position, [[2, 3, 4], [5, 6, 7]], atol=1e-6)
    assert value == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_above_the_threshold_gives_no_points(dtype):
    score = np.zeros((3, 4, 5), dtype=dtype)
    for position, value in (
        local_maxima(score, threshold=0.5, radius_voxels=2),
        blob_centroids(score, threshold=0.5, minimum_voxels=1),
    ):
        assert position.shape == (0, 3)
        assert value.shape == (0,)


def test_scores_of_other_shapes_and_radii_below_a_voxel_are_input_errors():
    with pytest.raises(InputError, match="axes z, y, x"):
        local_maxima(np.zeros((6, 3, 4, 5)), threshold=0.5, radius_voxels=2)
    with pytest.raises(InputError, match="axes z, y, x"):
        blob_centroids(np.zeros((4, 5)), threshold=0.5, minimum_voxels=1)
    with pytest.raises(InputError, match="at least one voxel"):
        local_maxima(np.zeros((3, 4, 5)), threshold=0.5, radius_voxels=0.9)
