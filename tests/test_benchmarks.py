"""The plain re-statement of the public notebook that the package is compared with, and the counting of arithmetic."""

import itertools
from dataclasses import fields, replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass

from benchmarks import (
    beyond,
    branches,
    cost,
    likeness,
    notebook_merge,
    notebook_unet,
    notebook_yolo,
    plain_notebook,
    plain_simulator,
    real_slice,
)
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.store import YoloModel, load_unet, save_yolo
from kaggle_cryoet.models.unet3d import UNetSettings
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picking.pickers import UNetPicker
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.simulation.bead_sources import BEAD_SOURCES
from kaggle_cryoet.simulation.nuisance_ranges import AS_FIXED, SHIFTED, TRAINING
from kaggle_cryoet.tomogram import read_tomogram

VOXEL = 10.012444


def chains(position: NDArray[np.float64], near: NDArray[np.bool_]) -> list[set[int]]:
    """Sets of points that chains of near pairs link, by brute force."""
    groups = [{i} for i in range(len(position))]
    for i, j in itertools.combinations(range(len(position)), 2):
        if near[i, j]:
            first, second = (next(group for group in groups if member in group) for member in (i, j))
            if first is not second:
                first |= second
                groups.remove(second)
    return groups


def as_sets(group: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(group == number).tolist()) for number in np.unique(group)}


def dbscan(position: NDArray[np.float64], eps: float, min_samples: int) -> set[frozenset[int]]:
    """Clusters by DBSCAN's definition: cores have enough neighbours, themselves counted; clusters grow from cores."""
    apart = np.linalg.norm(position[:, None] - position[None], axis=2)
    core = (apart <= eps).sum(axis=1) >= min_samples
    found: set[frozenset[int]] = set()
    for seed in np.flatnonzero(core):
        cluster, border = set(), [int(seed)]
        while border:
            member = border.pop()
            if member not in cluster:
                cluster.add(member)
                if core[member]:
                    border += np.flatnonzero(apart[member] <= eps).tolist()
        found.add(frozenset(cluster))
    return found


@pytest.mark.parametrize("least", [1, 2])
def test_connected_components_are_the_clusters_of_dbscan(least: int) -> None:
    position = np.random.default_rng(4).uniform(0, 400, (60, 3))
    found = {group for group in as_sets(notebook_merge.clusters(position, 60.0)) if len(group) >= least}
    assert found == dbscan(position, 60.0, least)
    assert {len(group) for group in found} > {2}  # single points, pairs and longer chains are all there


def test_more_points_than_two_are_refused_since_components_are_no_clusters_then() -> None:
    with pytest.raises(ValueError, match="are not DBSCAN"):
        notebook_merge.merge(Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0)), least_points=3)


def test_boxes_are_linked_by_chains_of_pairs_within_20_angstrom_in_the_plane_and_30_along_z() -> None:
    rng = np.random.default_rng(8)
    position = rng.uniform(0, 200, (120, 3))
    apart = np.abs(position[:, None] - position[None])
    near = (np.hypot(apart[..., 1], apart[..., 2]) <= 20) & (apart[..., 0] <= 30)
    assert as_sets(notebook_yolo.linked_groups(position)) == {frozenset(group) for group in chains(position, near)}
    assert len(notebook_yolo.linked_groups(np.empty((0, 3)))) == 0


def stack(name: str, slices: int, confidence: float, at: tuple[float, float] = (20.0, 30.0)) -> Detections:
    """Boxes one above the other."""
    index = np.array([(10 + z, *at) for z in range(slices)])
    return Detections(
        index_zyx=index,
        label=np.full(slices, label_of(name)),
        confidence=np.full(slices, confidence),
        diameter_voxels=np.full((slices, 2), 12.0),
        slices=np.arange(40),
    )


def test_the_notebooks_detector_has_all_cores_from_its_second_slice_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing a device, which it does at its first image, ultralytics takes all cores of a CPU but one."""
    monkeypatch.setattr("ultralytics.utils.torch_utils.NUM_THREADS", 1)
    detector = notebook_yolo.build_detector("n")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        notebook_yolo.detect_slices(detector, np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "slices", "confidence", "kept"),
    [
        ("ribosome", 9, 0.2, True),  # 9 x 0.2 / 9^0.34 = 0.85 > 0.5
        ("ribosome", 8, 0.9, False),  # 9 slices are the least
        ("apo-ferritin", 4, 0.21, True),  # 4 x 0.21 / 4^0.34 = 0.524 > 0.5
        ("apo-ferritin", 4, 0.195, False),  # 0.487
        ("beta-galactosidase", 2, 0.2, True),
        ("beta-amylase", 1, 0.2, True),
        ("beta-amylase", 1, 0.19, False),  # the confidence must be above 0.19
    ],
)
def test_a_particle_needs_its_slices_and_its_score(name: str, slices: int, confidence: float, kept: bool) -> None:
    boxes = stack(name, slices, confidence)
    picks = notebook_yolo.join_slices(boxes.index_zyx, boxes.label, boxes.confidence)
    assert len(picks) == kept
    if kept:
        centre = [10 + (slices - 1) / 2, 20, 30]
        np.testing.assert_allclose(picks.position_zyx_angstrom[0], np.array(centre) * 10.0)
        assert picks.score[0] == pytest.approx(slices * confidence / slices**0.34)


def test_of_classes_above_the_threshold_the_first_wins() -> None:
    score = np.zeros((6, 1, 1, 3), dtype=np.float32)
    score[1, 0, 0, 0], score[4, 0, 0, 0] = 0.06, 0.9
    score[5, 0, 0, 1] = 0.05
    score[5, 0, 0, 2] = 0.051
    assert notebook_unet.first_class(score).ravel().tolist() == [2, 0, 6]


@pytest.mark.parametrize("stride", [1, 2])
def test_blobs_of_more_than_200_voxels_of_the_tomogram_are_picks(stride: int) -> None:
    label = np.zeros((12, 14, 40), dtype=np.uint8)
    least = 200 // stride**3
    label[2:3, 2 : 2 + least // 5, 2:7] = 3 if stride == 2 else 0  # 25 voxels of the grid: not more than 200
    label[5:8, 5:8, 10:13] = 4 if stride == 2 else 0  # 27
    label[2:10, 2:7, 20:25] = 3 if stride == 1 else 0  # 200
    label[2:9, 2:8, 30:35] = 4 if stride == 1 else 0  # 210
    picks = notebook_unet.blob_picks(label, stride=stride)
    centre = [6, 6, 11] if stride == 2 else [5, 4.5, 32]
    assert picks.label.tolist() == [3]
    np.testing.assert_allclose(picks.position_zyx_angstrom[0], (np.array(centre) * stride + (stride - 1) / 2) * VOXEL)


def test_windows_are_those_of_the_notebook() -> None:
    boxes = notebook_unet.windows_of((184, 630, 630))
    assert len(boxes) == 98
    covered = np.zeros((184, 630, 630), dtype=np.bool_)
    for box in boxes:
        covered[box] = True
        assert [part.stop - part.start for part in box] == [96, 96, 96]
    assert covered.all()


class Recogniser(torch.nn.Module):
    """Says that what is bright is a ribosome, whatever way it is turned."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(1, 7, *x.shape[2:])
        logits[:, 0] = 20.0
        logits[:, 4] = torch.where(x[:, 0] > 2, 40.0, 0.0)
        return logits


def test_what_the_network_sees_in_windows_comes_back_in_its_place() -> None:
    volume = np.random.default_rng(0).uniform(-0.1, 0.1, (20, 100, 130)).astype(np.float32)
    volume[5:15, 90:99, 92:103] = 3.0  # across two windows along x
    label, seconds = notebook_unet.classify(Recogniser(), volume)
    assert len(seconds) == len(notebook_unet.windows_of(volume.shape)) == 4
    np.testing.assert_array_equal(label == 4, volume == 3)
    picks = notebook_unet.blob_picks(label)
    np.testing.assert_allclose(picks.position_zyx_angstrom, np.array([[9.5, 94, 97]]) * VOXEL)
    assert len(notebook_unet.classify(Recogniser(), volume, only=3)[1]) == 3


def test_both_halves_are_merged_into_their_mean_and_single_picks_are_kept_unless_both_must_agree() -> None:
    score = np.zeros((6, 30, 20, 24), dtype=np.float32)
    score[label_of("ribosome"), 5:9, 8:12, 13:17] = 0.8  # around 6.5, 9.5, 14.5 of the grid: 13.5, 19.5, 29.5
    score[label_of("thyroglobulin"), 20:24, 8:12, 13:17] = 0.8  # seen by the U-Net alone
    grid = ScoreGrid(score=score, stride=2)
    boxes = stack("ribosome", 11, 0.6, at=(20.0, 32.0))  # around 15, 20, 32, in voxels of 10 Å
    both = notebook_merge.merge_as_notebook(grid, boxes, voxel_angstrom=VOXEL)
    expected = (np.array([13.5, 19.5, 29.5]) * VOXEL + np.array([15.0, 20.0, 32.0]) * 10.0) / 2
    assert [PARTICLES[label].name for label in both.label] == ["ribosome", "thyroglobulin"]
    np.testing.assert_allclose(both.position_zyx_angstrom[0], expected)
    agreed = notebook_merge.merge_as_notebook(grid, boxes, voxel_angstrom=VOXEL, least_points=2)
    assert agreed.label.tolist() == [label_of("ribosome")]
    np.testing.assert_allclose(agreed.position_zyx_angstrom[0], expected)


def test_time_of_some_parts_counts_for_all_but_that_of_the_first_only_once() -> None:
    assert plain_notebook.for_all([9.0, 2.0, 4.0], 10) == pytest.approx(9 + 3 * 9)
    assert plain_notebook.for_all([9.0, 2.0, 4.0], 3) == pytest.approx(15)
    assert plain_notebook.for_all([2.0], 5) == pytest.approx(10)


def test_arithmetic_is_that_of_the_convolutions_counted_by_hand() -> None:
    """Two levels of 4 and 6 channels on a tomogram of one window of 8 x 16 x 24 voxels."""
    found, voxels = cost.unet_cost(UNetSettings(channels=(4, 6)), (8, 16, 24))
    fine, coarse = 4 * 8 * 12, 2 * 4 * 6
    weights_fine = 27 * (8 * 4 + 2 * 4 * 4 + 8 * 4 + 4 * 4) + 8 * 4 + 4 * 7  # stem, encoder, decoder, way around, head
    weights_coarse = 27 * 2 * 6 * 6 + 8 * 4 * 6 + 6 * 4  # encoder, the way down, the way up
    assert voxels == 8 * 16 * 24
    assert found.flop == 2 * (fine * weights_fine + coarse * weights_coarse)
    assert found.traffic_bytes > 2 * 2 * fine * (8 + 2 * 4 + 4 * 4 + 2 * 8 + 4 + 7)  # in and out of its convolutions


def test_a_second_look_costs_what_the_middle_and_four_crops_do() -> None:
    settings = UNetSettings(channels=(4, 6))
    found = cost.second_look_cost(settings, (16, 300, 400))
    seen, voxels = cost.unet_cost(settings, (16, 240, 352))
    crops, of_one = cost.unet_cost(settings, (16, 96, 96))
    assert (voxels, of_one) == (16 * 240 * 352, 16 * 96 * 96)
    assert found.flop == pytest.approx(seen.flop + 4 * crops.flop)
    assert found.flop < cost.unet_cost(settings, (16, 300, 400))[0].flop


def test_flips_and_slices_multiply_the_cost() -> None:
    settings = UNetSettings(channels=(4, 6))
    one, four = (cost.unet_cost(settings, (8, 16, 24), flips=flips)[0] for flips in (1, 4))
    assert four.flop == 4 * one.flop
    assert four.traffic_bytes == 4 * one.traffic_bytes
    short, tall = (cost.yolo_cost(YoloSettings(), (depth, 64, 60)) for depth in (3, 21))
    assert tall.flop == 7 * short.flop
    assert cost.Cost(flop=16e12, traffic_bytes=100e9).t4_seconds == (2.0, 2.5)


def test_each_branch_whose_models_there_are_and_the_merge_pick_in_a_tomogram(
    labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    with pytest.raises(click.ClickException, match="holds no models"):
        branches.available_pickers(weights)
    weights.mkdir()
    small_model.rename(weights / "unet3d")
    tomogram, settings = read_tomogram(find_runs(labelled_runs)[0]), PickSettings()
    pickers = branches.available_pickers(weights)
    alone = branches.pick_by_all(tomogram, pickers, settings)
    assert list(alone) == ["unet", "unet --strict"]
    torch.manual_seed(1)
    detector = YoloSettings()
    model = YoloModel(network=build_yolo(detector), settings=detector, thresholds=(0.5,) * 6, provenance={})
    save_yolo(weights / "yolo11", model)
    both = branches.pick_by_all(tomogram, branches.available_pickers(weights), settings)
    assert list(both) == ["unet", "unet --strict", "yolo", "yolo --strict", *branches.MERGES]
    np.testing.assert_array_equal(both["unet"].position_zyx_angstrom, alone["unet"].position_zyx_angstrom)
    assert isinstance(pickers["unet"], UNetPicker)
    assert pickers["unet"].model.thresholds == load_unet(weights / "unet3d").thresholds


def test_the_table_has_f_beta_precision_and_recall_of_each_type() -> None:
    truth = Picks(position_zyx_angstrom=[[0, 0, 0], [900, 0, 0]], label=[3, 3])
    found = Picks(position_zyx_angstrom=[[0, 0, 0], [0, 900, 0]], label=[3, 3])
    rows = branches.score_table({"unet": evaluate({"TS_1": found}, {"TS_1": truth})}).splitlines()
    assert rows[0].count("|") == rows[1].count("|") == rows[2].count("|") == 9
    assert rows[2].split(" | ")[:2] == ["| unet", "0.071"]  # half of a weight of 1 in 7
    assert "0.500 (0.50, 0.50)" in rows[2]


def test_the_parts_of_the_shift_are_all_in_which_the_shifted_setting_differs() -> None:
    differing = {item.name for item in fields(TRAINING) if getattr(TRAINING, item.name) != getattr(SHIFTED, item.name)}
    parts = [name for group in beyond.GROUPS.values() for name in group]
    assert len(parts) == len(set(parts))
    assert set(parts) == differing - set(AS_FIXED)


def test_a_part_of_the_shift_leaves_the_specimen_what_it_is_unless_it_is_of_the_specimen() -> None:
    shape = (184, 128, 128)
    noise, crowding = beyond.GROUPS["noise"], beyond.GROUPS["crowding"]
    plain, noisy, crowded = (beyond.shifted_volume(700, 1, names, (), shape) for names in ((), noise, crowding))
    again = beyond.shifted_volume(700, 1, (), (), shape)
    np.testing.assert_array_equal(again.volume, plain.volume)
    np.testing.assert_array_equal(noisy.picks.position_zyx_angstrom, plain.picks.position_zyx_angstrom)
    assert (noisy.volume != plain.volume).mean() > 0.9
    assert len(crowded.picks.label) > len(plain.picks.label) > 0


def blob(mass: float, offset: int = 0) -> NDArray[np.float32]:
    """A Gaussian off the middle of its map."""
    z, y, x = np.ogrid[:21, :21, :21]
    density = np.exp(-((z - 10 - offset) ** 2 + (y - 10) ** 2 + (x - 10 + offset) ** 2) / (2 * 2.5**2))
    return (density * mass / density.sum()).astype(np.float32)


def test_a_turned_map_keeps_its_mass_and_lies_with_its_centre_where_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        offset = rng.uniform(-0.5, 0.5, 3)
        box = plain_simulator.turned(blob(300, offset=3), offset, rng)
        assert box.sum() == pytest.approx(300, rel=0.02)
        np.testing.assert_allclose(center_of_mass(box), len(box) // 2 + offset, atol=0.05)


def test_particles_of_a_plain_specimen_lie_where_its_picks_are_and_not_over_each_other() -> None:
    names = [source.name for source in BEAD_SOURCES]
    maps = {name: blob(source.mass_kilodalton) for name, source in zip(names, BEAD_SOURCES, strict=True)}
    imaging = plain_simulator.Imaging(signal_to_noise=1, tilt_range_degree=60, complexes_per_cubic_micrometre=0)
    specimen = plain_simulator.Specimen((64, 96, 96), np.random.default_rng(1))
    centres = [centre for _ in range(30) if (centre := specimen.add(maps["ribosome"])) is not None]
    assert 10 < len(centres) <= 30
    at = np.round(np.array(centres)).astype(int)
    peak = maps["ribosome"].max()
    assert (specimen.density[tuple(at.T)] > 0.8 * peak).all()
    assert specimen.density.max() < 1.3 * peak  # tails may meet, bodies may not
    density, picks = plain_simulator.draw_specimen(maps, imaging, (64, 256, 256), np.random.default_rng(2))
    found = density[tuple(np.round(picks.position_zyx_angstrom / 10).astype(int).T)]
    assert len(picks) > 5
    assert (found > 0.8 * np.array([maps[PARTICLES[label].name].max() for label in picks.label])).all()


def test_a_plain_recording_has_its_noise_and_nothing_outside_the_tilt_range() -> None:
    density = np.zeros((64, 64, 64), dtype=np.float32)
    density[20:40, 30:34, 25:40] = 1
    rng = np.random.default_rng(3)
    for ratio in (100.0, 0.25):
        imaging = plain_simulator.Imaging(signal_to_noise=ratio, tilt_range_degree=45)
        recorded = plain_simulator.record(density, imaging, rng)
        power = np.abs(np.fft.fftn(recorded)) ** 2
        z, _, x = np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")
        assert power[np.abs(z) > np.abs(x) + 1.5 / 64].max() < 1e-6 * power.max()
        clean = plain_simulator.record(density, replace(imaging, signal_to_noise=1e9), rng)
        assert clean[30, 32, 32] < -0.3  # dark
        assert clean.var() / (recorded - clean).var() == pytest.approx(ratio, rel=0.05)


def figures_of_latent(latent: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n, 40)` figures that `(n, 5)` hidden numbers decide, but for a little noise."""
    rng = np.random.default_rng(0)
    return latent @ rng.normal(size=(latent.shape[1], 40)) + 0.05 * rng.normal(size=(len(latent), 40))


def test_what_lies_among_others_is_told_from_what_lies_far_off_or_beside_them() -> None:
    rng = np.random.default_rng(1)
    hidden = np.vstack([rng.normal(size=(200, 12)), np.zeros(12), 6 * np.eye(12)[0]])
    figures = figures_of_latent(hidden)
    simulated, middle, far = figures[:200].copy(), figures[200], figures[201]
    simulated[::7, 3] = np.nan  # a figure that not every tomogram has
    simulated[:, 5] = np.where(np.arange(200) % 2, simulated[:, 5], np.nan)  # one that too few have
    near, off = likeness.place_among(simulated, middle), likeness.place_among(simulated, far)
    beside = likeness.place_among(simulated, middle + 3 * (-1.0) ** np.arange(40))
    assert near.figures == 39
    assert near.distance < np.quantile(near.distances, 0.1)
    assert off.distance > 1.3 * np.median(off.distances)
    assert near.residual < near.residuals.max() < beside.residual


def test_simulated_ones_are_placed_among_the_others_as_the_real_one_is() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(60, 100))
    found = likeness.place_among(noise, rng.normal(size=100))
    apart = [likeness.place_among(np.delete(noise, one, axis=0), noise[one]) for one in (0, 31)]
    for one, placed in zip((0, 31), apart, strict=True):
        assert found.distances[one] == pytest.approx(placed.distance, rel=0.12)  # but for the spreads of 60 and of 59
        assert found.residuals[one] == pytest.approx(placed.residual, rel=0.05)
    drawn = [likeness.place_among(noise, rng.normal(size=100)) for _ in range(40)]
    assert np.mean([one.distance for one in drawn]) == pytest.approx(found.distances.mean(), rel=0.1)
    assert np.mean([one.residual for one in drawn]) == pytest.approx(found.residuals.mean(), rel=0.03)


def test_the_figures_tell_the_nuisance_that_they_depend_on_and_no_other() -> None:
    rng = np.random.default_rng(2)
    hidden = np.vstack([rng.normal(size=(200, 12)), 0.8 * np.eye(12)[4]])
    figures = figures_of_latent(hidden)
    found = likeness.place_among(figures[:200], figures[200])
    explained, real = likeness.explain(found, 3 + 2 * hidden[:200, 4])
    assert explained > 0.85
    assert real == pytest.approx(3 + 2 * 0.8, abs=0.35)
    assert likeness.explain(found, rng.normal(size=200))[0] < 0.1


def test_figures_of_a_table_are_those_of_its_sections_and_missing_ones_are_nan() -> None:
    real = {
        "crop, xy: a": {"x": 1.0, "y": 2.0},
        "field, xy: b": {"x": 3.0},
        "ribosome, 4 seen in the field": {"c": 4.0},
    }
    one = {"crop, xy: a": {"x": 5.0}, "ribosome, 2 seen in the field": {"c": 6.0}}
    simulated, row = likeness.figure_table([one], real, ("crop, ", "seen in the field"))
    np.testing.assert_array_equal(simulated, [[5.0, np.nan, 6.0]])
    np.testing.assert_array_equal(row, [1.0, 2.0, 4.0])


def test_the_surest_detections_are_counted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two apo-ferritins and a ribosome are shown; of six detections the second and fourth surest hit one of each."""
    place = np.array([[0.0, 500, 500], [0, 900, 900], [0, 100, 100], [0, 105, 100], [0, 300, 300], [0, 700, 100]])
    found = Picks(
        position_zyx_angstrom=place,
        label=np.array([0, 0, 0, 0, 0, 3]),
        score=np.array([0.9, 0.2, 0.8, 0.4, 0.1, 0.3]),
    )
    monkeypatch.setattr(real_slice, "detect_in_image", lambda *_: (found, np.full(6, 60.0)))
    truth = np.array([[980.0, 100, 100], [1030, 300, 300], [500, 900, 900], [920, 700, 100]])  # at 0, .83, .4 radii
    shown = Picks(position_zyx_angstrom=truth, label=np.array([0, 0, 0, 3]))
    hit, numbers = real_slice.hits(np.zeros((4, 4)), shown, 980.0, Path("weights"))
    expected = np.zeros((6, 3))
    expected[0, 0] = expected[0, 2] = expected[3, 1] = 1
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(hit[1:], [expected, expected])
    expected[0, 2] = expected[3, 1] = 0
    np.testing.assert_array_equal(hit[0], expected)


def test_hits_are_expected_for_the_numbers_that_another_slice_shows() -> None:
    shown, hit_elsewhere, shown_elsewhere = np.array([4, 10, 3]), np.array([6, 1, 0]), np.array([8, 10, 0])
    assert real_slice.at_numbers(shown, hit_elsewhere, shown_elsewhere) == pytest.approx(4 * 0.75 + 10 * 0.1)
    in_two = [
        np.stack([np.zeros_like(numbers), numbers], axis=1) for numbers in (shown, hit_elsewhere, shown_elsewhere)
    ]
    assert real_slice.at_numbers(*in_two) == pytest.approx(4 * 0.75 + 10 * 0.1)
