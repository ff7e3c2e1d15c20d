"""Closed membranes and the carbon film."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from kaggle_cryoet.simulation.carbon import EDGE_VOXELS, CarbonFilm, add_carbon_film, draw_carbon_film
from kaggle_cryoet.simulation.membranes import (
    HEADGROUP_DENSITY,
    LEAFLET_OFFSET_ANGSTROM,
    LEAFLET_SIGMA_ANGSTROM,
    RIPPLES,
    Vesicle,
    add_vesicle,
    draw_vesicle,
)
from kaggle_cryoet.simulation.placement import Slab

SHAPE = (44, 52, 60)
VOXEL = 10.0


def sphere(radius: float = 15.0, flattening: float = 1.0, ripple: float = 0.0) -> Vesicle:
    rng = np.random.default_rng(0)
    return Vesicle(
        centre_zyx=np.array([21.3, 26.1, 29.7]),
        radius_voxels=radius,
        flattening=flattening,
        ripple_wave=rng.normal(0, 1.6, (RIPPLES, 3)),
        ripple_phase=rng.uniform(0, 6, RIPPLES),
        ripple_amplitude=np.full(RIPPLES, ripple),
        strength=1.0,
    )


def drawn(vesicle: Vesicle) -> np.ndarray:
    density = np.zeros(SHAPE, dtype=np.float32)
    add_vesicle(density, vesicle, VOXEL)
    return density


def film(**changes: float) -> CarbonFilm:
    values: dict[str, float] = {
        "hole_radius_voxels": 40.0,
        "bottom_voxels": 10.0,
        "thickness_voxels": 12.0,
        "rim_voxels": 5.0,
        "rim_strength": 2.0,
        "edge_lift_voxels": 0.0,
        "edge_reach_voxels": 10.0,
        "density": 0.5,
        "roughness": 0.0,
        "edge_roughness_voxels": 0.0,
    }
    return CarbonFilm(hole_centre_yx=(20.0, 10.0), **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("flattening", "ripple"), [(1.0, 0.0), (1.0, 0.03), (0.4, 0.0), (0.4, 0.03)])
def test_bilayer_is_two_gaussian_leaflets_about_the_membrane(flattening: float, ripple: float) -> None:
    vesicle = sphere(flattening=flattening, ripple=ripple)
    grid = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3).astype(float)
    outside = vesicle.outside(grid) * VOXEL
    leaflets = sum(
        np.exp(-0.5 * ((outside + side * LEAFLET_OFFSET_ANGSTROM) / LEAFLET_SIGMA_ANGSTROM) ** 2) for side in (-1, 1)
    )
    np.testing.assert_allclose(drawn(vesicle).ravel(), HEADGROUP_DENSITY * leaflets, atol=3e-4)


def test_distance_to_a_round_membrane_is_that_of_a_sphere() -> None:
    points = np.random.default_rng(1).uniform(0, 44, (200, 3))
    expected = np.linalg.norm(points - [21.3, 26.1, 29.7], axis=1) - 15.0
    np.testing.assert_allclose(sphere().outside(points), expected, atol=1e-6)


def test_distance_to_a_flattened_membrane_is_that_of_an_ellipsoid() -> None:
    vesicle = sphere(flattening=0.4)
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 721), np.linspace(0, 2 * np.pi, 1441))
    surface = 15.0 * np.stack([0.4 * np.cos(theta), np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)], axis=-1)
    nearest = cKDTree(surface.reshape(-1, 3) + vesicle.centre_zyx)
    step = np.random.default_rng(1).normal(size=(400, 3))
    points = vesicle.centre_zyx + step / np.linalg.norm(step / [0.4, 1, 1], axis=1, keepdims=True) * 15.0
    points += np.random.default_rng(2).uniform(-1, 1, points.shape)
    found = vesicle.outside(points)
    np.testing.assert_allclose(np.abs(found), nearest.query(points)[0], rtol=0.15, atol=0.1)
    for pole in (-1, 1):
        at_pole = vesicle.centre_zyx + pole * np.array([0.4 * 15 + 3, 0, 0])
        assert vesicle.outside(at_pole[None])[0] == pytest.approx(3.0)


def test_flattened_vesicle_keeps_its_width_and_loses_height() -> None:
    mass = drawn(sphere(flattening=0.6))
    z, y, x = (np.flatnonzero(mass.sum(axis=axes) > 0.5) for axes in ((1, 2), (0, 2), (0, 1)))
    assert np.ptp(z) == pytest.approx(0.6 * 30 + 4, abs=3)
    assert np.ptp(y) == pytest.approx(34, abs=3)
    assert np.ptp(x) == pytest.approx(34, abs=3)


def test_vesicle_beyond_the_border_is_cut_off() -> None:
    vesicle = sphere(radius=30.0)
    density = drawn(vesicle)
    assert density.max() > 0.3
    assert np.isfinite(density).all()


@pytest.mark.parametrize("taper", [(0.0, 0.0), (0.3, -0.2)])
def test_drawn_vesicles_stay_in_the_ice_however_large(taper: tuple[float, float]) -> None:
    slab = Slab(shape_zyx=(100, 300, 310), thickness_voxels=60, slope_yx=(0, 0), offset_voxels=5, taper_yx=taper)
    rng = np.random.default_rng(2)
    for vesicle in (draw_vesicle(slab, VOXEL, rng) for _ in range(50)):
        z, y, x = vesicle.centre_zyx
        thickness = 60 * (1 + taper[0] * (y / 300 - 0.5) + taper[1] * (x / 310 - 0.5))
        half = vesicle.radius_voxels * vesicle.flattening
        assert half <= 0.45 * thickness + 1e-9
        assert abs(z - 55) + half <= thickness / 2 + 0.1 * half + 1
        assert 12 <= vesicle.radius_voxels <= 140


def test_film_lies_outside_the_hole_between_its_faces_with_a_denser_rim() -> None:
    density = np.zeros((30, 70, 90), dtype=np.float32)
    add_carbon_film(density, film(), np.random.default_rng(0))
    rows, columns = np.indices((70, 90))
    outside = np.hypot(rows - 20, columns - 10) - 40
    assert not density[:10].any()
    assert not density[23:].any()
    assert not density[:, outside < -EDGE_VOXELS / 2].any()
    np.testing.assert_allclose(density[15][outside > 30], 0.5, rtol=0.01)
    rim = (outside > 2) & (outside < 3)
    np.testing.assert_allclose(density[15][rim], 0.5 * (1 + np.exp(-outside[rim] / 5)), rtol=1e-4)


def test_film_is_bent_at_the_edge_of_the_hole() -> None:
    flat, bent = (np.zeros((60, 70, 90), dtype=np.float32) for _ in range(2))
    add_carbon_film(flat, film(bottom_voxels=20.5), np.random.default_rng(0))
    add_carbon_film(bent, film(bottom_voxels=20.5, edge_lift_voxels=-12.0), np.random.default_rng(0))
    rows, columns = np.indices((70, 90))
    outside = np.hypot(rows - 20, columns - 10) - 40
    np.testing.assert_allclose(bent.sum(axis=0), flat.sum(axis=0), rtol=1e-5)
    covered = outside > 0
    height = (bent * np.arange(60)[:, None, None]).sum(axis=0)[covered] / bent.sum(axis=0)[covered]
    np.testing.assert_allclose(height, 26.5 - 12 * np.exp(-outside[covered] / 10), atol=0.02)


def test_outline_of_the_hole_is_as_rough_as_asked_and_the_film_knows_how_far_it_may_reach() -> None:
    density = np.zeros((30, 400, 450), dtype=np.float32)
    rough = replace(film(edge_roughness_voxels=2.0, hole_radius_voxels=300.0), hole_centre_yx=(20.0, 10.0))
    add_carbon_film(density, rough, np.random.default_rng(0))
    rows, columns = np.indices((400, 450))
    outside = np.hypot(rows - 20, columns - 10) - 300
    covered = density[15] > 0.5 * 0.5
    assert covered[outside > 6 + EDGE_VOXELS].all()
    assert not covered[outside < -6 - EDGE_VOXELS].any()
    turn = np.arctan2(rows - 20.0, columns - 10.0)
    sectors = [np.abs(turn - angle) < 0.01 for angle in np.linspace(0.1, 1.4, 40)]
    edge = [outside[sector & covered].min() for sector in sectors]
    assert 1.0 < np.std(edge) < 3.0
    smooth = replace(rough, edge_roughness_voxels=0.0)
    near = np.array([15.0, 20.0, 300.0])  # ten voxels inside the hole
    assert not smooth.touches(near, 5.0)
    assert rough.touches(near, 5.0)
    beyond = np.array([rough.bottom_voxels + rough.thickness_voxels + 5.1, 20.0, 400.0])  # above the film
    assert not rough.touches(beyond, 5.0)
    assert rough.touches(beyond, 5.2)


@pytest.mark.parametrize("taper", [(0.3, 0.0), (-0.2, 0.1), (0.0, -0.3)])
def test_the_film_lies_where_the_ice_is_thicker(taper: tuple[float, float]) -> None:
    slab = Slab(shape_zyx=(100, 300, 300), thickness_voxels=60, slope_yx=(0, 0), offset_voxels=0, taper_yx=taper)
    rng = np.random.default_rng(4)
    directions = [150 - np.array(draw_carbon_film(slab, rng).hole_centre_yx) for _ in range(200)]
    thicker = np.array(taper) / np.hypot(*taper)
    along = [direction @ thicker / np.linalg.norm(direction) for direction in directions]
    assert min(along) >= 0.5 - 1e-9  # a third of half a turn aside at most
    assert np.mean(along) == pytest.approx(np.sin(np.pi / 3) / (np.pi / 3), abs=0.03)


def test_roughness_is_the_relative_spread_of_the_film() -> None:
    density = np.zeros((30, 70, 90), dtype=np.float32)
    add_carbon_film(density, film(roughness=0.3, rim_strength=1.0), np.random.default_rng(0))
    flat = density[12:20, :, 70:]
    assert flat.mean() == pytest.approx(0.5, rel=0.02)
    assert flat.std() / flat.mean() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize(
    ("position", "expected"),
    [((15.0, 20.0, 70.0), True), ((15.0, 20.0, 10.0), False), ((2.0, 20.0, 70.0), False), ((28.0, 20.0, 70.0), False)],
)
def test_film_knows_what_touches_it(position: tuple[float, float, float], expected: bool) -> None:
    assert film().touches(np.array(position), 5.0) is expected
    assert film().touches(np.array([4.0, 20.0, 70.0]), 7.0)
    at_edge = np.array([28.0, 20.0, 55.0])
    assert not film(edge_lift_voxels=-10.0).touches(at_edge, 5.0)
    assert film(edge_lift_voxels=10.0).touches(at_edge, 5.0)


def test_drawn_film_leaves_the_middle_of_the_field_free() -> None:
    slab = Slab(shape_zyx=(100, 300, 310), thickness_voxels=60, slope_yx=(0, 0), offset_voxels=0)
    rng = np.random.default_rng(3)
    for carbon in (draw_carbon_film(slab, rng) for _ in range(50)):
        assert not carbon.touches(np.array([50.0, 150.0, 155.0]), 13.0)
        assert carbon.bottom_voxels >= 20
        assert carbon.bottom_voxels + carbon.thickness_voxels <= 80
