"""Slices become particles: the identity run, particles that touch, and a plain quadratic version of the linking."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from spheres import VOXEL, cut_spheres

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import associate as module
from kaggle_cryoet.picking import linking
from kaggle_cryoet.picking.associate import AssociateSettings, associate
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picking.linking import LinkSettings, assign_particles
from kaggle_cryoet.picking.nms import suppress
from kaggle_cryoet.picks import Picks

SLICES = np.arange(184)
APO, RIBOSOME = 0, 3
RADIUS = PARTICLES[RIBOSOME].radius_angstrom / VOXEL


def a_specimen(count: int, seed: int, extent: tuple[float, float, float] = (1830.0, 6290.0, 6290.0)) -> Picks:
    """Particles anywhere, those of one type at least 1.4 radii apart."""
    rng = np.random.default_rng(seed)
    parts = []
    for label, particle in enumerate(PARTICLES):
        position = rng.random((count, 3)) * extent
        position = position[suppress(position, rng.random(count), 1.4 * particle.radius_angstrom)]
        parts.append((position, np.full(len(position), label)))
    positions, labels = zip(*parts, strict=True)
    return Picks(position_zyx_angstrom=np.concatenate(positions), label=np.concatenate(labels))


def two_of(label: int, separation: float, direction: tuple[float, float, float]) -> Picks:
    """Two particles, their centres so many radii apart."""
    unit = np.array(direction) / np.linalg.norm(direction)
    first = np.array([903.0, 1507.0, 2211.0])
    second = first + separation * PARTICLES[label].radius_angstrom * unit
    return Picks(position_zyx_angstrom=np.stack([first, second]), label=np.full(2, label))


def nothing() -> Detections:
    return Detections(
        index_zyx=np.empty((0, 3)),
        label=np.empty(0, dtype=np.int64),
        confidence=np.empty(0),
        diameter_voxels=np.empty((0, 2)),
        slices=SLICES,
    )


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_spheres_cut_into_boxes_come_back_as_a_perfect_score(stride: int) -> None:
    truth = a_specimen(60, seed=1)
    assert len(truth) > 330
    found = associate(cut_spheres(truth, SLICES[::stride]), VOXEL)
    assert len(found) == len(truth)
    assert evaluate({"run": found}, {"run": truth}).score == 1.0
    assert (found.score > (0.7 if stride < 4 else 0.5)).all()


def test_boxes_that_are_a_little_off_and_not_all_there_still_find_nearly_every_particle() -> None:
    truth = a_specimen(60, seed=2)
    boxes = cut_spheres(truth, SLICES, rng=np.random.default_rng(3), jitter=0.08, missed=0.2)
    score = evaluate({"run": associate(boxes, VOXEL)}, {"run": truth})
    assert score.score > 0.98


@pytest.mark.parametrize("label", range(len(PARTICLES)))
@pytest.mark.parametrize("separation", [1.4, 1.7, 2.0])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 1, 1), (2, 1, 0), (1, -1, 1), (3, 0, 1)])
def test_two_particles_that_touch_are_two(label: int, separation: float, direction: tuple[float, float, float]) -> None:
    truth = two_of(label, separation, direction)
    found = associate(cut_spheres(truth, SLICES), VOXEL)
    assert len(found) == 2
    for position in truth.position_zyx_angstrom:
        nearest = np.linalg.norm(found.position_zyx_angstrom - position, axis=1).min()
        assert nearest < 0.3 * PARTICLES[label].radius_angstrom  # a hit within 0.5


def test_a_stack_of_three_along_z_is_three() -> None:
    radius = PARTICLES[RIBOSOME].radius_angstrom
    position = np.array([[600.0, 900, 1300], [600 + 1.6 * radius, 910, 1290], [600 + 3.2 * radius, 900, 1310]])
    truth = Picks(position_zyx_angstrom=position, label=np.full(3, RIBOSOME))
    found = associate(cut_spheres(truth, SLICES), VOXEL)
    assert len(found) == 3
    assert evaluate({"run": found}, {"run": truth}).particles["ribosome"].hit == 3


def test_a_particle_of_which_an_end_of_the_volume_cuts_a_part_off_is_found_by_what_is_left() -> None:
    truth = Picks(position_zyx_angstrom=np.array([[30.0, 900, 1300]]), label=np.array([RIBOSOME]))
    boxes = cut_spheres(truth, SLICES)
    found = associate(boxes, VOXEL)
    np.testing.assert_allclose(found.position_zyx_angstrom, truth.position_zyx_angstrom, atol=5)
    by_mean = associate(boxes, VOXEL, AssociateSettings(centre_z="mean"))
    assert by_mean.position_zyx_angstrom[0, 0] > 60  # the middle of what is left
    whole = Picks(position_zyx_angstrom=np.array([[930.0, 900, 1300]]), label=np.array([RIBOSOME]))
    assert found.score == pytest.approx(associate(cut_spheres(whole, SLICES), VOXEL).score, abs=0.03)


def test_missing_slices_do_not_break_a_particle_in_two() -> None:
    truth = Picks(position_zyx_angstrom=np.array([[903.0, 900, 1300]]), label=np.array([RIBOSOME]))
    boxes = cut_spheres(truth, SLICES)
    there = ~np.isin(boxes.index_zyx[:, 0], [85, 86, 87, 88, 89, 95, 96])
    gappy = Detections(
        index_zyx=boxes.index_zyx[there],
        label=boxes.label[there],
        confidence=boxes.confidence[there],
        diameter_voxels=boxes.diameter_voxels[there],
        slices=SLICES,
    )
    found, whole = associate(gappy, VOXEL), associate(boxes, VOXEL)
    assert len(found) == 1
    np.testing.assert_allclose(found.position_zyx_angstrom, truth.position_zyx_angstrom, atol=15)
    assert found.score[0] < whole.score[0]


def test_boxes_of_different_types_have_nothing_to_do_with_each_other() -> None:
    position = np.array([[903.0, 900, 1300]] * 2)
    truth = Picks(position_zyx_angstrom=position, label=np.array([2, 4]))
    found = associate(cut_spheres(truth, SLICES), VOXEL)
    assert found.label.tolist() == [2, 4]
    np.testing.assert_allclose(found.position_zyx_angstrom, position, atol=3)


def test_the_score_is_that_of_the_share_of_the_slices_that_show_it() -> None:
    index = np.array([[90.0, 50, 60], [91, 50, 60], [91, 50, 61], [92, 50, 60]])
    boxes = Detections(
        index_zyx=index,
        label=np.full(4, APO),
        confidence=np.array([0.5, 0.25, 0.75, 1.0]),
        diameter_voxels=np.full((4, 2), 11.9),
        slices=SLICES,
    )
    found = associate(boxes, VOXEL)
    centre = found.position_zyx_angstrom[0, 0] / VOXEL
    expected = (np.abs(SLICES - centre) <= 0.85 * 60 / VOXEL).sum()
    assert found.score == pytest.approx([1 - np.exp(-2 * (0.5 + 0.75 + 1.0) / expected)])
    assert len(associate(boxes, VOXEL, AssociateSettings(least_score=0.99))) == 0


def test_no_boxes_are_no_particles_and_one_box_is_one() -> None:
    assert len(associate(nothing(), VOXEL)) == 0
    one = Detections(
        index_zyx=np.array([[0.0, 5, 7]]),
        label=np.array([APO]),
        confidence=np.array([0.9]),
        diameter_voxels=np.array([[10.0, 12]]),
        slices=np.array([0]),
    )
    found = associate(one, VOXEL)
    np.testing.assert_allclose(found.position_zyx_angstrom, [[0, 5 * VOXEL, 7 * VOXEL]])


def ribosome(z: list[float], edges: list[tuple[float, float]], confidence: list[float], x: list[float]) -> Detections:
    """Boxes at y = 50, their edges y, x over the diameter of a ribosome, their x in its radii from 60 voxels."""
    return Detections(
        index_zyx=np.array([[height, 50.0, 60 + RADIUS * aside] for height, aside in zip(z, x, strict=True)]),
        label=np.full(len(z), RIBOSOME),
        confidence=np.array(confidence),
        diameter_voxels=2 * RADIUS * np.array(edges),
        slices=SLICES,
    )


def test_boxes_far_from_the_middle_of_all_have_no_say_in_it() -> None:
    aside = [0.0] * 6 + [0.45, 0.9]  # the mean of all is at .169, from which the last is .73 away
    boxes = ribosome([90.0 + i for i in range(8)], [(1.0, 1.0)] * 8, [0.9] * 8, aside)
    found = associate(boxes, VOXEL)
    assert len(found) == 1
    assert found.position_zyx_angstrom[0, 2] / VOXEL == pytest.approx(60 + RADIUS * 0.45 / 7)


def test_the_width_of_a_box_is_the_geometric_mean_of_its_edges() -> None:
    found = associate(ribosome([90.0, 94.0], [(0.8, 1.25), (0.8, 0.8)], [0.9, 0.9], [0.0, 0.0]), VOXEL)
    half = 2 / RADIUS  # of the distance; widths squared are 1 and .64, and the prior weighs .2
    expected = 92 - RADIUS * 0.5 * half * 0.36 / (2 * half**2 + 0.2)
    assert found.position_zyx_angstrom[0, 0] / VOXEL == pytest.approx(expected)


def test_the_mean_over_the_slices_is_weighted_by_confidence() -> None:
    boxes = ribosome([90.0, 94.0], [(1.0, 1.0)] * 2, [0.9, 0.1], [0.0, 0.0])
    found = associate(boxes, VOXEL, AssociateSettings(centre_z="mean"))
    assert found.position_zyx_angstrom[0, 0] / VOXEL == pytest.approx(90.4)


@pytest.mark.parametrize("side", [-1, 1])
def test_widths_lead_away_from_the_mean_over_the_slices_up_to_a_limit(side: int) -> None:
    widths = ([1.2] * 3 + [0.3] * 3)[::-side]
    edges = [(width, width) for width in widths]
    found = associate(ribosome([84.0, 87.0, 89.0, 91.0, 93.0, 96.0], edges, [0.9] * 6, [0.0] * 6), VOXEL)
    assert found.position_zyx_angstrom[0, 0] / VOXEL == pytest.approx(90 + side * 0.7 * RADIUS)


def test_a_box_supports_one_that_is_further_than_a_radius_away() -> None:
    z, width = np.array([0.3, 1.3, 1.8, 2.6]), np.array([0.4, 0.6, 0.5, 0.1])
    position = np.stack([z, np.zeros(4), np.zeros(4)], axis=1)
    found = assign_particles(position, width, np.array([0.9, 0.1, 0.4, 0.3]), 0.1, LinkSettings())
    assert [np.flatnonzero(found == particle).tolist() for particle in dict.fromkeys(found.tolist())] == [
        [0],
        [1, 2],
        [3],
    ]


def test_neighbouring_slices_are_linked_in_spite_of_rounding() -> None:
    slices = np.arange(0, 184, 6) / (PARTICLES[APO].radius_angstrom / VOXEL)
    step = slices[1] - slices[0]
    for first, second in pairwise(slices):
        position = np.array([[first, 5.0, 5.0], [second, 5.0, 5.0]])
        found = assign_particles(position, np.full(2, 0.75**0.5), np.array([0.9, 0.8]), step, LinkSettings())
        assert found.tolist() == [0, 0]


def assign_by_brute_force(
    position: np.ndarray, width: np.ndarray, confidence: np.ndarray, step: float, settings: LinkSettings
) -> np.ndarray:
    """`(n,)` for each box that of the middle of its particle; compares each box with each."""
    difference = np.abs(position[:, None] - position)  # (n, n, zyx)
    in_slice = np.sqrt((difference[..., 1:] ** 2).sum(axis=2))
    linked = (difference[..., 0] <= max(settings.z, 1.001 * step)) & (in_slice <= settings.yx)
    _, root = connected_components(linked)
    together = root[:, None] == root
    height = np.sqrt(1 - np.minimum(width, 1) ** 2)
    missed = (difference[..., 0] - height) ** 2 + in_slice**2
    support = (together * confidence * np.maximum(1 - missed / settings.support**2, 0)).sum(axis=1)
    support += 1e-6 * confidence
    distance = np.where(together, np.sqrt((difference**2).sum(axis=2)), np.inf)
    middle = np.arange(len(position))
    falling = np.argsort(-support, kind="stable")  # of equal supports, as of boxes without any, the first is the better
    for number, i in enumerate(falling):
        better = falling[:number][distance[i, falling[:number]] <= settings.separation]
        if len(better):
            middle[i] = middle[better[distance[i, better].argmin()]]
    return middle


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread", [2.0, 6.0, 30.0])
def test_boxes_anywhere_are_put_together_as_by_comparing_each_with_each(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    step = float(rng.choice([0.07, 0.3, 1.2]))
    count = 250
    z = rng.integers(0, max(int(spread / step / 2), 2), count) * step
    position = np.column_stack([z, rng.random((count, 2)) * spread])
    width, confidence = rng.uniform(0.3, 1.2, count), rng.random(count)
    particle = assign_particles(position, width, confidence, step, LinkSettings())
    expected = assign_by_brute_force(position, width, confidence, step, LinkSettings())
    assert sorted(set(particle)) == list(range(particle.max() + 1))
    np.testing.assert_array_equal(particle[:, None] == particle, expected[:, None] == expected)


def test_the_kernels_are_the_python_they_are_written_in(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = cut_spheres(two_of(APO, 1.5, (2, 1, 0)), SLICES, rng=np.random.default_rng(5), jitter=0.05)
    compiled = associate(boxes, VOXEL)
    for room, name in (
        (linking, "_link"),
        (linking, "_find"),
        (linking, "_support"),
        (linking, "_climb"),
        (module, "_summarise"),
        (module, "_middle"),
        (module, "_height"),
    ):
        monkeypatch.setattr(room, name, getattr(room, name).py_func)
    plain = associate(boxes, VOXEL)
    np.testing.assert_allclose(plain.position_zyx_angstrom, compiled.position_zyx_angstrom)
    np.testing.assert_allclose(plain.score, compiled.score)


@pytest.mark.parametrize("wrong", [{"centre_z": "median"}, {"seen_height": 0.0}, {"least_score": 1.5}])
def test_settings_out_of_range_are_an_input_error(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        AssociateSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="positive"):
        LinkSettings(separation=0.0)


def test_a_box_that_is_far_too_wide_moves_its_particle_hardly() -> None:
    truth = two_of(RIBOSOME, 30.0, (0, 1, 0))
    boxes = cut_spheres(truth, SLICES)
    of_first = np.flatnonzero(np.abs(boxes.index_zyx[:, 1] - truth.position_zyx_angstrom[0, 1] / VOXEL) < 1)
    wide = boxes.diameter_voxels.copy()
    wide[of_first[3]] *= 3
    found, expected = (associate(one, VOXEL) for one in (replace(boxes, diameter_voxels=wide), boxes))
    assert len(found) == len(expected) == 2
    apart = np.linalg.norm(found.position_zyx_angstrom[:, None] - expected.position_zyx_angstrom, axis=2).min(axis=0)
    assert apart.max() < 0.1 * PARTICLES[RIBOSOME].radius_angstrom
