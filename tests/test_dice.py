"""Dice coefficients of masks, against counting voxel by voxel."""

import numpy as np
import pytest

from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.dice import count_overlap, dice
from kaggle_cryoet.training.targets import TargetSettings, draw_targets

SHAPE = (35, 14, 18)
VOXEL_ANGSTROM = 10.0


def example(stride):
    rng = np.random.default_rng(0)
    position = rng.uniform(0, np.array(SHAPE) * stride * VOXEL_ANGSTROM, (24, 3))
    picks = Picks(position_zyx_angstrom=position, label=rng.integers(6, size=24))
    return picks, rng.dirichlet(np.full(7, 0.3), SHAPE).astype(np.float32)


@pytest.mark.parametrize(("stride", "shape"), [(1, "sphere"), (2, "peak")])
def test_voxels_are_counted_as_one_by_one(stride, shape):
    picks, probability = example(stride)
    settings = TargetSettings(shape=shape, least_sigma_angstrom=50.0)
    score = np.moveaxis(probability[..., 1:], -1, 0)
    counts = count_overlap(ScoreGrid(score=score, stride=stride), picks, VOXEL_ANGSTROM, settings)
    target = draw_targets(picks, shape_zyx=SHAPE, stride=stride, voxel_angstrom=VOXEL_ANGSTROM, settings=settings)
    best = probability.argmax(axis=-1) - 1
    for label in range(6):
        predicted, true = best == label, target[label] > 0.5
        assert counts[label].tolist() == [predicted.sum(), true.sum(), (predicted & true).sum()]
    assert (counts > 0).all()


def test_the_target_as_scores_has_a_coefficient_of_one_and_nothing_has_none():
    picks, _ = example(2)
    picks = picks.select(picks.label != 4)
    settings = TargetSettings(shape="sphere", sphere_of_radius=0.2)
    target = draw_targets(picks, shape_zyx=SHAPE, stride=2, voxel_angstrom=VOXEL_ANGSTROM, settings=settings)
    alone = target * (target.sum(axis=0) <= 1)
    counts = count_overlap(ScoreGrid(score=alone, stride=2), picks, VOXEL_ANGSTROM, settings)
    coefficient = dice(counts)
    np.testing.assert_allclose(coefficient[[0, 1, 2, 3, 5]], 1, atol=0.2)
    assert np.isnan(coefficient[4])
    assert dice(np.array([[4, 6, 3]] * 6)).tolist() == [0.6] * 6
