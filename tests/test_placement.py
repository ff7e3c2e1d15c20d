"""Where particles are put: numbers, distances, the shape of the ice."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import kstest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.simulation.placement import CONTACT_SPREAD, Occupancy, Slab, place

SHAPE = (60, 180, 240)
RADIUS = 5.0


def level_slab(thickness: float = 40.0, slope: tuple[float, float] = (0.0, 0.0)) -> Slab:
    return Slab(shape_zyx=SHAPE, thickness_voxels=thickness, slope_yx=slope, offset_voxels=-4.0)


def placed(count: int, contact: float, seed: int = 0, slab: Slab | None = None) -> np.ndarray:
    positions = place(
        [count],
        [RADIUS],
        names=["a"],
        slab=slab or level_slab(),
        contact_fraction=[contact],
        occupancy=Occupancy(RADIUS),
        rng=np.random.default_rng(seed),
    )
    return positions[0]


def nearest(position: np.ndarray) -> np.ndarray:
    return cKDTree(position).query(position, k=2)[0][:, 1]


def test_uniform_positions_fill_the_ice_evenly_with_the_margin_kept() -> None:
    position = level_slab().draw(4000, 3.0, np.random.default_rng(1))
    bounds = [(30 - 4 - 20 + 3, 30 - 4 + 20 - 3), (0, 179), (0, 239)]
    for axis, (low, high) in enumerate(bounds):
        assert position[:, axis].min() >= low
        assert position[:, axis].max() <= high
        assert kstest(position[:, axis], "uniform", args=(low, high - low)).pvalue > 1e-3


def test_a_share_of_positions_lies_at_the_surfaces_of_the_ice() -> None:
    position = level_slab().draw(4000, 3.0, np.random.default_rng(2), interface_fraction=0.5)
    depth = (position[:, 0] - 9) / 34
    outer = (depth < 0.08) | (depth > 0.92)
    assert outer.mean() == pytest.approx(0.5 + 0.5 * 0.16, abs=0.03)
    assert abs((depth < 0.5).mean() - 0.5) < 0.03


def test_sloped_ice_rises_as_said_and_knows_what_it_contains() -> None:
    slab = level_slab(20.0, slope=(0.05, -0.02))
    position = slab.draw(3000, 0.0, np.random.default_rng(3))
    design = np.c_[np.ones(3000), position[:, 1] - 90, position[:, 2] - 120]
    fit = np.linalg.lstsq(design, position[:, 0], rcond=None)[0]
    assert fit[0] == pytest.approx(26.0, abs=0.4)
    assert fit[1:] == pytest.approx([0.05, -0.02], abs=0.008)
    assert slab.contains(position).all()
    assert not slab.contains(position + np.array([21.0, 0, 0])).any()
    assert not slab.contains(position + np.array([0, 240.0, 0])).any()


def test_volume_of_the_ice_is_area_times_thickness() -> None:
    assert level_slab().cubic_micrometres(10.0) == pytest.approx(180 * 240 * 40 * 1e-9)


def test_asked_for_numbers_are_placed_and_none_overlap() -> None:
    kinds = place(
        [12, 0, 30],
        [8.0, 3.0, 5.0],
        names=["a", "b", "c"],
        slab=level_slab(),
        contact_fraction=[0.0, 0.0, 0.5],
        occupancy=Occupancy(8.0),
        rng=np.random.default_rng(4),
    )
    assert [len(kind) for kind in kinds] == [12, 0, 30]
    centre = np.concatenate(kinds)
    radius = np.repeat([8.0, 3.0, 5.0], [12, 0, 30])
    gap = np.linalg.norm(centre[:, None] - centre[None], axis=-1) - radius[:, None] - radius[None]
    assert gap[~np.eye(len(gap), dtype=bool)].min() >= 0


def test_share_in_contact_follows_what_was_asked_for() -> None:
    alone, together = nearest(placed(60, 0.0)), nearest(placed(60, 0.95, seed=1))
    contact = 2 * RADIUS * CONTACT_SPREAD
    assert (alone < contact).mean() < 0.2
    assert (together < contact).mean() > 0.9
    assert np.median(together) < 0.6 * np.median(alone)


def test_balls_that_are_there_already_and_forbidden_places_are_left_free() -> None:
    occupancy = Occupancy(20.0)
    obstacle = np.array([26.0, 90.0, 120.0])
    occupancy.add(obstacle, 20.0)
    position = place(
        [60],
        [RADIUS],
        names=["a"],
        slab=level_slab(),
        contact_fraction=[0.3],
        occupancy=occupancy,
        rng=np.random.default_rng(5),
        is_forbidden=lambda centre, radius: bool(centre[1] < 60 + radius),
    )[0]
    assert np.linalg.norm(position - obstacle, axis=1).min() >= 20 + RADIUS
    assert position[:, 1].min() >= 60 + RADIUS


def test_more_particles_than_their_volume_allows_end_at_once() -> None:
    with pytest.raises(InputError, match="at most 35 % fit"):
        placed(100_000, 0.0)


def test_particles_that_find_no_place_are_counted_in_the_message() -> None:
    thin = Slab(shape_zyx=(40, 41, 43), thickness_voxels=30, slope_yx=(0, 0), offset_voxels=0)
    with pytest.raises(InputError, match=r"only \d+ of 35 a of radius 5.0 voxels fit"):
        placed(35, 0.0, slab=thin)
