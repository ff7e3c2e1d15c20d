"""One list from two: who belongs together, what is known of each, and the best of those that are close."""

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import fuse
from kaggle_cryoet.picking.fuse import FuseSettings, highest_within, join, pair, rank, suppress_each_type
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks

VOXEL = 10.0
RIBOSOME, THYROGLOBULIN = 3, 4


def picks(rows: list[tuple[float, float, float, int, float]]) -> Picks:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Picks(position_zyx_angstrom=table[:, :3], label=table[:, 3].astype(np.int64), score=table[:, 4])


def empty_grid() -> ScoreGrid:
    return ScoreGrid(score=np.zeros((len(PARTICLES), 20, 30, 40), dtype=np.float32), stride=2)


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def column(features: np.ndarray, name: str) -> list[float]:
    return features[:, FEATURES.index(name)].tolist()


def test_candidates_of_both_are_paired_within_half_a_radius_and_each_other_one_stays() -> None:
    unet = picks([(100, 200, 300, RIBOSOME, 0.8), (100, 500, 300, RIBOSOME, 0.3), (100, 200, 300, THYROGLOBULIN, 0.6)])
    yolo = picks([(140, 200, 300, RIBOSOME, 0.5), (250, 500, 300, RIBOSOME, 0.7), (300, 560, 500, THYROGLOBULIN, 0.4)])
    found = join(unet, yolo, empty_grid(), VOXEL)
    assert found.picks.label.tolist() == [RIBOSOME] * 3 + [THYROGLOBULIN] * 2
    np.testing.assert_allclose(
        found.picks.position_zyx_angstrom,
        [[110, 200, 300], [100, 500, 300], [250, 500, 300], [100, 200, 300], [300, 560, 500]],
    )
    least = logit(0.005)
    assert column(found.features, "unet_logit") == pytest.approx([logit(0.8), logit(0.3), least, logit(0.6), least])
    assert column(found.features, "yolo_logit") == pytest.approx([logit(0.5), least, logit(0.7), least, logit(0.4)])
    assert column(found.features, "found_by_unet") == [1, 1, 0, 1, 0]
    assert column(found.features, "found_by_yolo") == [1, 0, 1, 0, 1]
    assert found.picks.score.tolist() == [0.8, 0.3, 0.7, 0.6, 0.4]


def test_where_yolo_alone_found_something_the_scores_of_the_u_net_are_looked_up() -> None:
    grid = empty_grid()
    # grid voxel (5, 9, 14) has its centre at voxel (10.5, 18.5, 28.5); half a radius of a ribosome is 7.5 voxels
    grid.score[RIBOSOME, 5, 9, 14] = 0.4
    grid.score[THYROGLOBULIN, 5, 9, 14] = 0.9
    near, far = (105.0 + 74, 185.0, 285.0), (105.0, 185.0 + 76, 285.0)
    found = join(picks([]), picks([(*near, RIBOSOME, 0.5), (*far, RIBOSOME, 0.5)]), grid, VOXEL)
    assert column(found.features, "unet_logit") == pytest.approx([logit(0.4), logit(0.005)])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_highest_score_around_a_place_is_that_of_looking_at_every_voxel(dtype: type) -> None:
    rng = np.random.default_rng(0)
    score = rng.random((7, 11, 13)).astype(dtype)
    index = rng.random((50, 3)) * [8, 12, 14] - 0.5
    voxel = np.stack(np.indices(score.shape), axis=-1)
    for radius in (0.3, 1.0, 2.7):
        expected = []
        for place in index:
            within = np.linalg.norm(voxel - place, axis=-1) <= radius
            within[tuple(np.clip(np.rint(place).astype(int), 0, np.array(score.shape) - 1))] = True
            expected.append(score[within].max())
        np.testing.assert_allclose(highest_within(score, index, radius), expected)
    np.testing.assert_allclose(
        fuse._highest_within.py_func(score.astype(np.float32), index[:5], 2.7), highest_within(score, index[:5], 2.7)
    )
    assert highest_within(score, np.empty((0, 3)), 1.0).shape == (0,)


def test_the_closest_are_paired_first_and_nobody_twice() -> None:
    first = np.array([[0.0, 0, 0], [0, 0, 10], [50, 50, 50]])
    second = np.array([[0.0, 0, 6], [0, 0, 1], [0, 40, 0]])
    i, j = pair(first, second, 8.0)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 0)]
    i, j = pair(first, second, 4.5)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (1, 0)]
    i, j = pair(first, second, 3.9)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1)]


def test_points_at_the_same_place_are_paired() -> None:
    i, j = pair(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 3]]), 1.0)
    assert (i.tolist(), j.tolist()) == ([0], [0])


def test_no_candidates_at_all_are_an_empty_list() -> None:
    found = join(picks([]), picks([]), empty_grid(), VOXEL)
    assert len(found.picks) == 0
    assert found.features.shape == (0, len(FEATURES))
    assert len(rank(found, a_hybrid(), 1.0)) == 0


def a_hybrid() -> HybridModel:
    rows = [[0.0] * (len(FEATURES) + 1) for _ in PARTICLES]
    rows[RIBOSOME] = [1.0, 2.0, 0.0, 0.5, -1.0]
    return HybridModel(coefficients=tuple(map(tuple, rows)), thresholds=(0.5,) * 6, provenance={})


def test_probabilities_are_logistic_and_of_close_ones_the_likelier_stays() -> None:
    unet = picks([(100, 200, 300, RIBOSOME, 0.8), (230, 200, 300, RIBOSOME, 0.6)])
    yolo = picks([(100, 200, 300, RIBOSOME, 0.6)])
    ranked = rank(join(unet, yolo, empty_grid(), VOXEL), a_hybrid(), 1.0)  # 130 apart, the radius is 150
    assert len(ranked) == 1
    exponent = logit(0.8) + 2 * logit(0.6) + 0.5 - 1.0
    assert ranked.score == pytest.approx([1 / (1 + np.exp(-exponent))])
    assert len(rank(join(unet, yolo, empty_grid(), VOXEL), a_hybrid(), 0.8)) == 2


def test_each_type_is_suppressed_by_its_own_radius_the_best_first() -> None:
    found = suppress_each_type(
        picks([(0, 0, 0, 4, 0.2), (0, 0, 100, 0, 0.5), (0, 0, 0, 0, 0.9), (0, 0, 100, 4, 0.3), (0, 0, 900, 4, 0.4)]),
        1.0,
    )
    assert found.label.tolist() == [0, 0, 4, 4]
    assert found.score.tolist() == [0.9, 0.5, 0.4, 0.3]


def test_probabilities_of_extreme_logits_do_not_overflow() -> None:
    probability = a_hybrid().probability(np.array([[1e4, 1e4, 1, 1], [-1e4, -1e4, 0, 0]]), np.array([3, 3]))
    assert probability.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "wrong", [{"pair_radius": 0.0}, {"unet_share": 1.1}, {"least_unet_score": 1.0}, {"least_evidence": 0.0}]
)
def test_settings_out_of_range_are_an_input_error(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        FuseSettings(**wrong)


@pytest.mark.parametrize(
    "rows", [[[0.0] * 5] * 5, [[0.0] * 4] * 6, [[0.0] * 4 + [float("nan")]] * 6, [[0.0] * 5] * 5 + [[0.0] * 4]]
)
def test_a_hybrid_of_another_shape_is_an_input_error(rows: list[list[float]]) -> None:
    with pytest.raises(InputError, match="coefficients"):
        HybridModel(coefficients=tuple(map(tuple, rows)), thresholds=(0.5,) * 6, provenance={})
