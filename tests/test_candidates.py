import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.candidates import LocaliseSettings, find_candidates
from kaggle_cryoet.picking.segment import ScoreGrid

VOXEL_ANGSTROM = 10.012444
SHAPE = (60, 90, 130)
THRESHOLDS = [0.3] * 6


def grid_with_particles(stride, *, dtype=np.float32, heights=(1.0, 0.8, 0.6)):
    """Gaussians of 0.4 radii for three particles of every type, and their positions `(type, 3, 3)` in Å."""
    rng = np.random.default_rng(0)
    shape = tuple(-(-size // stride) for size in SHAPE)
    # the centre of each block of voxels in Å, written out
    z, y, x = ((np.arange(n) * stride + (stride - 1) / 2) * VOXEL_ANGSTROM for n in shape)
    scores, positions = [], []
    for particle in PARTICLES:
        position = np.array([[150.0, 200, 250], [300, 600, 400], [450, 300, 1000]]) + rng.uniform(-40, 40, (3, 3))
        sigma = 0.4 * particle.radius_angstrom
        score = np.zeros(shape)
        for (cz, cy, cx), height in zip(position, heights, strict=True):
            distance_squared = (z - cz)[:, None, None] ** 2 + (y - cy)[:, None] ** 2 + (x - cx) ** 2
            score = np.maximum(score, height * np.exp(-distance_squared / (2 * sigma**2)))
        scores.append(score)
        positions.append(position)
    return ScoreGrid(score=np.stack(scores).astype(dtype), stride=stride), np.stack(positions)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("method", "tolerance_angstrom"), [("maxima", 0.2), ("centroids", 5.0)])
def test_planted_particles_are_found_in_angstrom_best_first(method, tolerance_angstrom, stride, dtype):
    grid, positions = grid_with_particles(stride, dtype=dtype)
    picks = find_candidates(
        grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=THRESHOLDS, settings=LocaliseSettings(method=method)
    )
    assert picks.label.tolist() == np.repeat(np.arange(6), 3).tolist()
    found = picks.position_zyx_angstrom.reshape(6, 3, 3)
    np.testing.assert_allclose(found, positions, atol=tolerance_angstrom)
    assert (np.diff(picks.score.reshape(6, 3)) < 0).all()
    assert (picks.score > 0.3).all()


def test_each_type_has_its_own_threshold():
    grid, _ = grid_with_particles(2, heights=(0.9, 0.6, 0.3))
    thresholds = [0.0001, 0.2, 0.45, 0.45, 0.7, 0.99]
    picks = find_candidates(grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=thresholds)
    assert np.bincount(picks.label, minlength=6).tolist() == [3, 3, 2, 2, 1, 0]


def test_a_threshold_applied_to_the_scores_afterwards_gives_the_same_picks():
    score = np.random.default_rng(1).random((6, 20, 25, 30), dtype=np.float32)
    grid = ScoreGrid(score=score, stride=2)
    thresholds = np.linspace(0.9, 0.99, 6)
    early = find_candidates(grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=thresholds.tolist())
    late = find_candidates(grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=[0.5] * 6)
    late = late.select(late.score > thresholds[late.label])
    np.testing.assert_array_equal(early.position_zyx_angstrom, late.position_zyx_angstrom)
    np.testing.assert_array_equal(early.label, late.label)


@pytest.mark.parametrize("method", ["maxima", "centroids"])
def test_picks_of_one_type_are_a_radius_apart_and_types_do_not_suppress_each_other(method):
    score = np.zeros((6, 20, 30, 40), dtype=np.float32)
    apo_ferritin, ribosome = 0, 3
    for label in (apo_ferritin, ribosome):
        score[label, 8:12, 8:12, 8:12] = 0.5
        score[label, 8:12, 8:12, 14:18] = 0.5
        score[label, 9, 9, 9], score[label, 9, 9, 15] = 0.9, 0.8
    picks = find_candidates(  # 6 grid voxels are 120 Å: twice the radius of apo-ferritin, less than that of a ribosome
        ScoreGrid(score=score, stride=2),
        voxel_angstrom=VOXEL_ANGSTROM,
        thresholds=THRESHOLDS,
        settings=LocaliseSettings(method=method),
    )
    assert picks.label.tolist() == [apo_ferritin, apo_ferritin, ribosome]
    np.testing.assert_allclose(picks.score, [0.9, 0.8, 0.9], rtol=1e-6)


def test_blobs_smaller_than_the_fraction_of_the_particle_are_dropped():
    score = np.zeros((6, 20, 30, 40), dtype=np.float32)
    score[:, 5:8, 6:9, 7:10] = 0.9  # 27 voxels of 20 Å: a quarter of apo-ferritin, less than 2 % of a ribosome
    settings = LocaliseSettings(method="centroids")
    picks = find_candidates(
        ScoreGrid(score=score, stride=2), voxel_angstrom=VOXEL_ANGSTROM, thresholds=THRESHOLDS, settings=settings
    )
    sphere_voxels = 4 / 3 * np.pi * np.array([p.radius_angstrom for p in PARTICLES]) ** 3 / (2 * VOXEL_ANGSTROM) ** 3
    assert picks.label.tolist() == np.flatnonzero(0.02 * sphere_voxels <= 27).tolist()
    assert 0 in picks.label
    assert 3 not in picks.label


def test_the_threshold_of_a_blob_is_for_its_highest_score_and_does_not_cut_it():
    score = np.zeros((6, 20, 30, 40), dtype=np.float32)
    score[0, 5:9, 6:10, 7:11] = 0.3
    score[0, 5, 6, 7] = 0.9
    settings = LocaliseSettings(method="centroids")
    found = [
        find_candidates(
            ScoreGrid(score=score, stride=2), voxel_angstrom=VOXEL_ANGSTROM, thresholds=[cut] * 6, settings=settings
        )
        for cut in (0.05, 0.8, 0.95)
    ]
    assert [len(picks) for picks in found] == [1, 1, 0]
    for picks in found[:2]:
        np.testing.assert_allclose(
            picks.position_zyx_angstrom[0], [13.5 * 10.012444, 15.5 * 10.012444, 17.5 * 10.012444]
        )


def test_a_grid_coarser_than_the_particles_still_works():
    score = np.zeros((6, 5, 6, 7), dtype=np.float32)
    score[0, 2, 3, 4] = 0.9
    picks = find_candidates(ScoreGrid(score=score, stride=8), voxel_angstrom=VOXEL_ANGSTROM, thresholds=THRESHOLDS)
    np.testing.assert_allclose(picks.position_zyx_angstrom, [[19.5 * 10.012444, 27.5 * 10.012444, 35.5 * 10.012444]])


@pytest.mark.parametrize("method", ["maxima", "centroids"])
def test_nothing_found_is_an_empty_set_of_picks(method):
    grid = ScoreGrid(score=np.zeros((6, 4, 5, 6), dtype=np.float32), stride=2)
    settings = LocaliseSettings(method=method)
    picks = find_candidates(grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=THRESHOLDS, settings=settings)
    assert len(picks) == 0


@pytest.mark.parametrize(("classes", "thresholds"), [(7, 6), (6, 5)])
def test_one_class_and_one_threshold_for_each_type_are_required(classes, thresholds):
    grid = ScoreGrid(score=np.zeros((classes, 4, 5, 6), dtype=np.float32), stride=2)
    with pytest.raises(InputError, match="expected 6"):
        find_candidates(grid, voxel_angstrom=VOXEL_ANGSTROM, thresholds=[0.5] * thresholds)


@pytest.mark.parametrize(
    "settings",
    [{"method": "peaks"}, {"maximum_radius": 0.0}, {"suppression_radius": -1.0}, {"minimum_blob": 1.5}],
)
def test_impossible_settings_are_an_input_error(settings):
    with pytest.raises(InputError):
        LocaliseSettings(**settings)


@pytest.mark.parametrize("label", range(6))
@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.0, 2.0, 1.0)])
def test_the_nearest_neighbours_there_are_stay_two(label, direction):
    """Ribosomes are 1.39 radii apart, and localised to some hundredths of a radius."""
    radius = PARTICLES[label].radius_angstrom
    first = np.array([291.0, 437.0, 602.0])
    second = first + 1.3 * radius * np.array(direction) / np.linalg.norm(direction)
    z, y, x = ((2 * np.arange(n // 2) + 0.5) * VOXEL_ANGSTROM for n in SHAPE)
    score = np.zeros((6, *(n // 2 for n in SHAPE)), dtype=np.float32)
    for (cz, cy, cx), height in ((first, 0.9), (second, 0.6)):
        square = (z - cz)[:, None, None] ** 2 + (y - cy)[:, None] ** 2 + (x - cx) ** 2
        score[label] = np.maximum(score[label], height * np.exp(-square / (2 * (0.3 * radius) ** 2)))
    picks = find_candidates(ScoreGrid(score=score, stride=2), voxel_angstrom=VOXEL_ANGSTROM, thresholds=THRESHOLDS)
    assert picks.label.tolist() == [label, label]
    np.testing.assert_allclose(picks.position_zyx_angstrom, [first, second], atol=0.2 * radius)
