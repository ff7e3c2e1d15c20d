"""The specimen: what is labelled, where it is, and that nothing else is laid into it."""

from dataclasses import fields, replace

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_SHAPE_ZYX, angstrom_to_index
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.simulation.beads import load_bead_model, render
from kaggle_cryoet.simulation.lysate import Beads, aggregate, cargo, companions, filament, globules, gold, scattered
from kaggle_cryoet.simulation.nuisance_ranges import (
    AS_FIXED,
    HARDER,
    SHIFTED,
    TRAINING,
    WIDE,
    Chance,
    NuisanceRanges,
    Sometimes,
    Uniform,
)
from kaggle_cryoet.simulation.nuisances import Nuisances
from kaggle_cryoet.simulation.placement import INTERFACE_SHARE, Slab
from kaggle_cryoet.simulation.population import HABITS, Population, beads_of, contact_radii_voxels, draw_counts
from kaggle_cryoet.simulation.specimen import Specimen, _slab, draw_specimen

SHAPE = (40, 56, 72)
VOXEL = 10.0
SLAB = Slab(shape_zyx=SHAPE, thickness_voxels=30, slope_yx=(0.0, 0.0), offset_voxels=0.0)
CLEAN = {
    "lysate_per_cubic_micrometre": 0.0,
    "companions_per_ribosome": 0.0,
    "distractors_per_cubic_micrometre": 0.0,
    "aggregates_per_cubic_micrometre": 0.0,
    "vesicles_per_cubic_micrometre": 0.0,
    "filaments_per_cubic_micrometre": 0.0,
    "gold_per_cubic_micrometre": 0.0,
    "contaminations_per_square_micrometre": 0.0,
    "carbon_edge": False,
    "ice_thickness_angstrom": 300.0,
    "ice_offset": 0.0,
    "ice_slope_y": 0.0,
    "ice_slope_x": 0.0,
}
"""Nothing but labelled particles."""


def nuisances(seed: int = 0, **changes: float | bool) -> Nuisances:
    return replace(TRAINING.draw(np.random.default_rng(seed)), **changes)  # type: ignore[arg-type]


def specimen(counts: dict[str, int], seed: int = 0, shape: tuple[int, int, int] = SHAPE, **changes: float) -> Specimen:
    rng = np.random.default_rng(seed)
    return draw_specimen(nuisances(**(CLEAN | changes)), shape, rng, voxel_angstrom=VOXEL, counts=counts)


def centre_of_mass(volume: np.ndarray) -> np.ndarray:
    return np.array([(np.indices(volume.shape)[axis] * volume).sum() / volume.sum() for axis in range(3)])


def one_pick(name: str, at: tuple[float, float, float], orientation: np.ndarray | None = None) -> Picks:
    return Picks(
        position_zyx_angstrom=np.array([at]) * VOXEL, label=np.array([label_of(name)]), orientation_zyx=orientation
    )


@pytest.mark.parametrize("name", PARTICLE_NAMES)
def test_centre_of_mass_of_a_particle_is_at_its_pick(name: str) -> None:
    shape = (64, 80, 96)
    inside = []
    for seed in range(20):
        made = specimen({name: 1}, seed=seed, shape=shape)
        assert len(made.picks) == 1
        position = angstrom_to_index(made.picks.position_zyx_angstrom, VOXEL)[0]
        if (np.abs(position - (np.array(shape) - 1) / 2) < np.array(shape) / 2 - 18).all():  # whole within the volume
            inside.append(position)
            np.testing.assert_allclose(centre_of_mass(made.density), position, atol=0.05)
    assert len(inside) >= 3
    picks = one_pick(name, (20.3, 27.4, 35.9))
    made = draw_specimen(nuisances(**CLEAN), SHAPE, np.random.default_rng(0), voxel_angstrom=VOXEL, picks=picks)
    np.testing.assert_allclose(centre_of_mass(made.density), (20.3, 27.4, 35.9), atol=0.05)


@pytest.mark.parametrize("heights", [(5.0, 12.0), (3.0, 30.0), (100.0, 117.0), (10.0, 110.0), (59.0, 61.0)])
def test_the_ice_holds_given_picks_wherever_they_are(heights: tuple[float, float]) -> None:
    picks = Picks(position_zyx_angstrom=np.array([[z, 20.0, 30.0] for z in heights]) * VOXEL, label=np.array([0, 0]))
    slab = _slab(nuisances(ice_thickness_angstrom=300.0), (120, 56, 72), VOXEL, picks)
    low, high = slab.z_range()
    assert low < min(heights)
    assert max(heights) < high
    assert slab.contains(np.array([[z, 20.0, 30.0] for z in heights])).all()


def test_mass_is_that_of_the_structures_and_the_cargo() -> None:
    for name, cargo_fraction, expected in (("ribosome", 0.5, 4300.0), ("virus-like-particle", 0.0, 2500.0)):
        made = draw_specimen(
            nuisances(**CLEAN, cargo_fraction=cargo_fraction),
            SHAPE,
            np.random.default_rng(1),
            voxel_angstrom=VOXEL,
            picks=one_pick(name, (19.5, 27.5, 35.5)),
        )
        assert made.density.sum() == pytest.approx(expected, rel=0.2)


def test_orientation_of_a_pick_turns_its_structure() -> None:
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    made = draw_specimen(
        nuisances(**CLEAN),
        SHAPE,
        np.random.default_rng(2),
        voxel_angstrom=VOXEL,
        picks=one_pick("thyroglobulin", (20.0, 27.0, 36.0), turn[None]),
    )
    expected = render(load_bead_model("thyroglobulin"), turn, SHAPE, VOXEL, (20.0, 27.0, 36.0))
    assert np.corrcoef(made.density.ravel(), expected.ravel())[0, 1] > 0.9999
    np.testing.assert_array_equal(made.picks.orientation_zyx, turn[None])


def test_picks_that_overlap_are_told_and_those_of_unknown_orientation_are_turned_at_random(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    picks = Picks(
        position_zyx_angstrom=np.array([[20, 20, 20], [20, 20, 23], [20, 20, 60], [20, 40, 60]]) * VOXEL,
        label=np.array([0, 0, 0, 3]),
        orientation_zyx=np.stack([known, known, np.full((3, 3), np.nan), known]),
    )
    made = draw_specimen(nuisances(**CLEAN), SHAPE, np.random.default_rng(5), voxel_angstrom=VOXEL, picks=picks)
    (message,) = caplog.messages
    assert message.startswith("2 picks are nearer to another one than such particles lie, the nearest 30 Å")
    found = made.picks.orientation_zyx
    assert found is not None
    np.testing.assert_array_equal(found[[0, 1, 3]], [known] * 3)
    np.testing.assert_allclose(found[2] @ found[2].T, np.eye(3), atol=1e-12)
    assert np.abs(found[2] - known).max() > 0.1


def test_structures_of_another_size_keep_a_distance_in_proportion() -> None:
    model = load_bead_model("apo-ferritin")
    larger = replace(
        model, position_zyx_angstrom=2 * model.position_zyx_angstrom, sigma_angstrom=2 * model.sigma_angstrom
    )
    usual = contact_radii_voxels({}, VOXEL)
    radii = contact_radii_voxels({"apo-ferritin": larger, "ribosome": load_bead_model("ribosome")}, VOXEL)
    np.testing.assert_allclose(radii / usual, [2, 1, 1, 1, 1, 1])
    made = draw_specimen(
        nuisances(**CLEAN),
        (60, 130, 150),
        np.random.default_rng(6),
        voxel_angstrom=VOXEL,
        counts={"apo-ferritin": 8},
        bead_models={"apo-ferritin": larger},
    )
    index = angstrom_to_index(made.picks.position_zyx_angstrom, VOXEL)
    distance = np.linalg.norm(index[:, None] - index[None], axis=-1)[~np.eye(8, dtype=bool)]
    assert distance.min() >= 2 * radii[0] - 1e-6


def test_asked_for_counts_are_made_and_no_two_labelled_particles_overlap() -> None:
    counts = {"apo-ferritin": 12, "ribosome": 4, "virus-like-particle": 2, "beta-amylase": 3}
    made = specimen(counts, shape=(60, 130, 150), ice_thickness_angstrom=500.0)
    found = np.bincount(made.picks.label, minlength=6)
    assert found.tolist() == [counts.get(name, 0) for name in PARTICLE_NAMES]
    radius = np.array([HABITS[PARTICLE_NAMES[label]].contact_radius_angstrom for label in made.picks.label])
    position = made.picks.position_zyx_angstrom
    gap = np.linalg.norm(position[:, None] - position[None], axis=-1) - radius[:, None] - radius[None]
    assert gap[~np.eye(len(gap), dtype=bool)].min() >= -1e-6


def test_orientations_are_rotations_and_differ() -> None:
    rotation = specimen({"apo-ferritin": 6}).picks.orientation_zyx
    assert rotation is not None
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (6, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    assert np.abs(rotation[0] - rotation[1]).max() > 0.1


def test_drawn_counts_follow_the_real_ones_in_proportion_to_the_volume() -> None:
    rng = np.random.default_rng(4)
    half = (92, 630, 630)
    counts = [draw_counts(nuisances(particle_density=1.0), half, rng) for _ in range(400)]
    for particle in PARTICLES:
        assert np.mean([item[particle.name] for item in counts]) == pytest.approx(particle.mean_count / 2, rel=0.1)
    assert np.prod(half) * 2 == np.prod(CZII_SHAPE_ZYX)


def test_surroundings_stay_out_of_particles_and_are_not_labelled() -> None:
    crowded = {"lysate_per_cubic_micrometre": 1e6, "gold_per_cubic_micrometre": 0.0}
    without = specimen({"ribosome": 2}, seed=5)
    made = specimen({"ribosome": 2}, seed=5, **crowded)
    np.testing.assert_array_equal(np.bincount(made.picks.label), [0, 0, 0, 2])
    assert made.density.sum() > 1.5 * without.density.sum()
    rows = np.stack(np.indices(SHAPE), axis=-1)
    for position in angstrom_to_index(made.picks.position_zyx_angstrom, VOXEL):
        core = np.linalg.norm(rows - position, axis=-1) < 6.0
        inner, outer = made.density[core].mean(), load_bead_model("ribosome").mass.sum() / (4.19 * 9.5**3)
        assert inner < 2.5 * outer


def test_everything_unlabelled_can_be_drawn_at_once() -> None:
    everything = {
        "lysate_per_cubic_micrometre": 1e5,
        "distractors_per_cubic_micrometre": 5e3,
        "aggregates_per_cubic_micrometre": 1e4,
        "vesicles_per_cubic_micrometre": 5e3,
        "filaments_per_cubic_micrometre": 1e4,
        "gold_per_cubic_micrometre": 1e4,
        "contaminations_per_square_micrometre": 1e3,
        "carbon_edge": True,
        "ice_thickness_angstrom": 480,
    }
    made = specimen({"apo-ferritin": 1}, seed=5, shape=(48, 90, 100), **everything)
    assert len(made.picks) == 1
    assert np.isfinite(made.density).all()
    assert made.density.min() >= -10  # rough carbon has holes


@pytest.mark.parametrize(
    ("counts", "message"),
    [({"ribosome": 500}, "at most 35 % fit"), ({"ribosom": 1}, "unknown particle 'ribosom'")],
)
def test_impossible_counts_are_refused(counts: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        specimen(counts)


def test_picks_outside_the_volume_or_beside_counts_are_refused() -> None:
    rng = np.random.default_rng(0)
    outside = one_pick("ribosome", (20.0, 90.0, 30.0))
    with pytest.raises(InputError, match="1 of 1 picks lie outside the volume"):
        draw_specimen(nuisances(**CLEAN), SHAPE, rng, voxel_angstrom=VOXEL, picks=outside)
    inside = one_pick("ribosome", (20.0, 30.0, 30.0))
    with pytest.raises(InputError, match="got both"):
        draw_specimen(nuisances(**CLEAN), SHAPE, rng, voxel_angstrom=VOXEL, picks=inside, counts={"ribosome": 1})


def test_membranes_and_carbon_spare_given_picks() -> None:
    shape = (60, 150, 170)
    position = np.array([[25.0, 40, 50], [30, 100, 120], [35, 60, 140]])
    picks = Picks(position_zyx_angstrom=position * VOXEL, label=np.full(3, label_of("ribosome")))
    crowded = CLEAN | {"vesicles_per_cubic_micrometre": 2e3, "carbon_edge": True}
    rows = np.stack(np.indices(shape), axis=-1)
    balls = [np.linalg.norm(rows - centre, axis=-1) < 8.0 for centre in position]
    for seed in range(4):
        clean, made = (
            draw_specimen(nuisances(**settings), shape, np.random.default_rng(seed), voxel_angstrom=VOXEL, picks=picks)
            for settings in (CLEAN, crowded)
        )
        assert made.density.sum() > 2 * clean.density.sum()
        for ball in balls:  # both masses vary by some per cent; a membrane through the middle is half of one
            assert made.density[ball].sum() == pytest.approx(clean.density[ball].sum(), rel=0.4)


def test_nuisances_must_be_finite_and_slopes_alone_may_be_negative() -> None:
    assert nuisances(ice_slope_x=-0.1).ice_slope_x == -0.1
    with pytest.raises(InputError, match="background_loss must be a finite number that is not negative, got -1"):
        nuisances(background_loss=-1.0)
    with pytest.raises(InputError, match="defocus_angstrom"):
        nuisances(defocus_angstrom=np.nan)


def test_distributions_draw_within_their_bounds() -> None:
    rng = np.random.default_rng(7)
    values = np.array([Uniform(1.0, 100.0, log=True).at(share) for share in rng.random(2000)])
    assert values.min() >= 1
    assert values.max() <= 100
    assert np.median(values) == pytest.approx(10, rel=0.15)


def test_a_nuisance_that_is_there_sometimes_is_as_often_as_asked_for_and_uniform() -> None:
    values = np.array([Sometimes(0.3, 45, 120).at(share) for share in np.linspace(0, 1, 1001)[:-1]])
    assert (values > 0).sum() == 300
    np.testing.assert_allclose(values[:300], 45 + np.arange(300) / 300 * 75)
    assert not values[300:].any()


def test_ten_tomograms_of_a_set_hold_a_value_from_each_tenth_of_every_range() -> None:
    drawn = [WIDE.draw_of_set(5, number) for number in range(20)]
    for item in fields(WIDE):
        distribution = getattr(WIDE, item.name)
        if isinstance(distribution, Chance | Sometimes):
            expected = round(10 * distribution.probability)
            assert sum(getattr(nuisances, item.name) > 0 for nuisances in drawn[:10]) == expected
            continue
        bounds = [distribution.at(share) for share in np.linspace(0, 1, 11)]
        for block in (drawn[:10], drawn[10:]):
            tenth = np.digitize([getattr(nuisances, item.name) for nuisances in block], bounds)
            assert sorted(tenth.tolist()) == list(range(1, 11)), item.name


def test_a_tomogram_of_a_set_depends_on_its_seed_and_number_alone() -> None:
    ranges = NuisanceRanges()
    assert ranges.draw_of_set(5, 13) == ranges.draw_of_set(5, 13)
    assert ranges.draw_of_set(5, 13) != ranges.draw_of_set(5, 3)
    assert ranges.draw_of_set(5, 13) != ranges.draw_of_set(6, 13)


def test_no_nuisance_of_a_set_follows_another() -> None:
    drawn = [WIDE.draw_of_set(5, number) for number in range(400)]
    values = [[float(getattr(nuisances, item.name)) for nuisances in drawn] for item in fields(WIDE)]
    between = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(between).max() < 0.2
    assert np.std(between) == pytest.approx(1 / np.sqrt(400), rel=0.3)


def test_difficulty_moves_draws_within_their_ranges_as_its_formula_says() -> None:
    ranges = NuisanceRanges()
    sets = {
        difficulty: [ranges.draw_of_set(5, number, difficulty=difficulty) for number in range(400)]
        for difficulty in (-0.5, 0.0, 1.0)
    }
    for item in fields(ranges):
        distribution = getattr(ranges, item.name)
        if isinstance(distribution, Chance | Sometimes):
            continue
        middle = distribution.at(0.5)
        for difficulty, drawn in sets.items():
            values = np.array([getattr(nuisances, item.name) for nuisances in drawn])
            assert distribution.low <= values.min()
            assert values.max() <= distribution.high
            easier = {1: values <= middle, -1: values >= middle}.get(HARDER.get(item.name, 0))
            expected = 0.5 if easier is None else 1 - 0.5 ** (1 / 4**difficulty)
            assert np.mean(values <= middle if easier is None else easier) == pytest.approx(expected, abs=0.02)
    assert set(HARDER) <= {item.name for item in fields(ranges)}


def test_shifted_ranges_lie_beyond_what_may_be_trained_on() -> None:
    moved = {item.name for item in fields(SHIFTED) if getattr(SHIFTED, item.name) != getattr(TRAINING, item.name)}
    assert set(AS_FIXED) < moved
    moved -= set(AS_FIXED)
    assert len(moved) == 8
    for trained in (TRAINING, WIDE):
        for name in moved:
            ours, theirs = getattr(trained, name), getattr(SHIFTED, name)
            assert ours.high <= theirs.low or theirs.high <= ours.low, name


def test_wide_ranges_hold_those_of_training() -> None:
    for item in fields(WIDE):
        wide, training = getattr(WIDE, item.name), getattr(TRAINING, item.name)
        if isinstance(wide, Chance | Sometimes):
            assert wide.probability >= training.probability, item.name
        else:
            assert wide.low <= training.low, item.name
            assert training.high <= wide.high, item.name


def test_virus_like_particles_differ_in_size_and_keep_their_centre_and_mass() -> None:
    vlp = load_bead_model("virus-like-particle")
    size = np.array([[0.8, 0.8, 0.8], [1.0, 1.1, 0.9]])
    population = Population(
        model=vlp,
        radius_voxels=13.0,
        position=np.array([[20.0, 30.0, 40.0], [60.0, 70.0, 90.0]]),
        rotation=np.tile(np.eye(3), (2, 1, 1)),
        size=size,
    )
    beads = beads_of(population, VOXEL, np.random.default_rng(3))
    for particle, part in enumerate(np.split(np.arange(len(beads.mass)), 2)):
        centre = np.average(beads.position[part], axis=0, weights=beads.mass[part])
        np.testing.assert_allclose(centre, population.position[particle], atol=0.01)
        expected = vlp.position_zyx_angstrom.std(axis=0) * size[particle] / VOXEL
        np.testing.assert_allclose(beads.position[part].std(axis=0), expected, rtol=1e-6)


def test_companions_lie_around_ribosomes_in_the_number_asked_for() -> None:
    centres = np.array([[50.0, 60.0, 70.0], [50.0, 160.0, 170.0]] * 100)
    position = companions(centres, 6.0, VOXEL, np.random.default_rng(4))
    assert len(position) == pytest.approx(1200, rel=0.1)
    distance = VOXEL * np.linalg.norm(position[:, None] - centres[None, :2], axis=-1).min(axis=1)
    assert distance.min() >= 110
    assert distance.max() <= 210


def test_globular_proteins_have_the_size_of_their_mass() -> None:
    beads = globules(np.zeros((4000, 3)), VOXEL, np.random.default_rng(8))
    mass = beads.mass.sum() / 4000
    assert mass == pytest.approx(40 * np.exp(0.5 * 0.9**2), rel=0.15)
    gyration = np.sqrt((beads.mass * (beads.position**2).sum(axis=1)).sum() / beads.mass.sum()) * VOXEL
    assert 20 < gyration < 70


def test_ice_that_tapers_holds_as_much_as_it_is_thick_everywhere() -> None:
    slab = Slab(
        shape_zyx=(100, 400, 500), thickness_voxels=60, slope_yx=(0.0, 0.0), offset_voxels=0.0, taper_yx=(0.4, -0.2)
    )
    assert slab.thickness(np.array([0.0, 200.0, 400.0]), np.array([250.0, 250.0, 0.0])) == pytest.approx([48, 60, 78])
    position = slab.draw(200_000, 0.0, np.random.default_rng(10))
    assert slab.contains(position).all()
    height = np.abs(position[:, 0] - 50) / (slab.thickness(position[:, 1], position[:, 2]) / 2)
    assert np.histogram(height, bins=5, range=(0, 1))[0] == pytest.approx([40_000] * 5, rel=0.03)
    rows, columns = np.histogram(position[:, 1], 10)[0], np.histogram(position[:, 2], 10)[0]
    assert rows == pytest.approx(20_000 * (1 + 0.4 * (np.arange(10) - 4.5) / 10), rel=0.04)
    assert columns == pytest.approx(20_000 * (1 - 0.2 * (np.arange(10) - 4.5) / 10), rel=0.04)


def test_a_share_of_the_lysate_that_lies_alone_makes_a_layer_on_either_surface() -> None:
    slab = Slab(shape_zyx=(100, 200, 200), thickness_voxels=60, slope_yx=(0.0, 0.0), offset_voxels=0.0)
    position = scattered(20_000, 0.0, slab, VOXEL, np.random.default_rng(11), interface_fraction=0.3)
    depth = (position[:, 0] - 20) / 60
    layer = INTERFACE_SHARE
    for share in (np.mean(depth < layer), np.mean(depth > 1 - layer)):
        assert share == pytest.approx(0.15 + 0.7 * layer, abs=0.02)


def test_positions_of_the_lysate_lie_in_the_ice_and_cluster_as_asked() -> None:
    slab = Slab(shape_zyx=(80, 400, 500), thickness_voxels=60, slope_yx=(0.0, 0.0), offset_voxels=0.0)
    rng = np.random.default_rng(9)
    alone, grouped = (scattered(2000, share, slab, VOXEL, rng) for share in (0.0, 0.9))
    assert len(alone) == 2000
    assert 1300 < len(grouped) <= 2000  # what a group has outside the ice is left out
    for position in (alone, grouped):
        assert slab.contains(position).all()
    counts = [np.histogram2d(position[:, 1], position[:, 2], bins=12)[0] for position in (alone, grouped)]
    dispersion = [count.var() / count.mean() for count in counts]
    assert dispersion[0] == pytest.approx(1.0, abs=0.4)
    assert dispersion[1] > 3.0


def test_cargo_is_centred_within_the_capsid_and_has_its_mass() -> None:
    beads = cargo(np.array([[10.0, 20.0, 30.0]] * 40), np.ones((40, 3)), 1000.0, VOXEL, np.random.default_rng(10))
    per_capsid = beads.mass.reshape(40, -1)
    assert per_capsid.sum(axis=1).mean() == pytest.approx(900, rel=0.1)
    centre = (per_capsid[..., None] * beads.position.reshape(40, -1, 3)).sum(axis=1) / per_capsid.sum(axis=1)[:, None]
    np.testing.assert_allclose(centre, [[10, 20, 30]] * 40, atol=1e-9)
    assert np.linalg.norm(beads.position - [10, 20, 30], axis=1).max() < 14


def test_aggregates_filaments_and_gold_are_where_they_are_put() -> None:
    rng = np.random.default_rng(11)
    centre = np.array([20.0, 28.0, 36.0])
    clump: Beads = aggregate(centre, VOXEL, rng)
    assert np.linalg.norm(clump.position.mean(axis=0) - centre) < 25
    thread = filament(centre, SLAB, VOXEL, rng)
    assert SLAB.contains(thread.position).mean() > 0.9
    bead = gold(centre[None], VOXEL, rng)
    assert bead.mass[0] / ((2 * np.pi) ** 1.5 * bead.sigma[0] ** 3) == pytest.approx(8.0)
