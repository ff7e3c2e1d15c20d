"""From runs to picks: the identity run, planted particles, bad tomograms, time limits, several workers."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kaggle_cryoet.geometry import angstrom_to_index
from kaggle_cryoet.jobs import evaluate
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import pipeline
from kaggle_cryoet.picking.candidates import LocaliseSettings, find_candidates
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.pipeline import PickSettings, pick_runs, pick_tomogram
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picks import Picks, read_copick
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.simulation.dataset import simulate
from kaggle_cryoet.submission import write_submission
from kaggle_cryoet.tomogram import read_tomogram
from kaggle_cryoet.training.targets import draw_targets

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def crowded_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowded")
    counts = {particle.name: 6 for particle in PARTICLES}
    simulate(folder, runs=2, shape_zyx=(88, 148, 166), seed=21, counts=counts)
    return folder


def targets_as_scores(run_truth: Picks, shape: tuple[int, ...], voxel_angstrom: float, stride: int) -> ScoreGrid:
    grid = tuple(-(-edge // stride) for edge in shape)
    return ScoreGrid(
        score=draw_targets(run_truth, shape_zyx=grid, stride=stride, voxel_angstrom=voxel_angstrom), stride=stride
    )


@pytest.mark.parametrize("method", ["maxima", "centroids"])
@pytest.mark.parametrize("stride", [1, 2])
def test_targets_used_as_scores_come_back_as_a_perfect_score(
    crowded_runs: Path, tmp_path: Path, method: str, stride: int
) -> None:
    found = {}
    for run in find_runs(crowded_runs):
        tomogram = read_tomogram(run)
        assert run.picks_directory is not None
        truth = read_copick(run.picks_directory)
        assert len(truth) == 36
        grid = targets_as_scores(truth, tomogram.data.shape, tomogram.voxel_angstrom, stride)
        found[run.name] = find_candidates(
            grid,
            voxel_angstrom=tomogram.voxel_angstrom,
            thresholds=[0.3] * len(PARTICLES),
            settings=LocaliseSettings(method=method),  # type: ignore[arg-type]
        )
        assert len(found[run.name]) == len(truth)
    write_submission(tmp_path / "submission.csv", found)
    assert evaluate(tmp_path / "submission.csv", crowded_runs).score == 1.0


def test_planted_particles_come_back_where_they_were_planted(crowded_runs: Path) -> None:
    residuals = []
    for run in find_runs(crowded_runs):
        tomogram = read_tomogram(run)
        assert run.picks_directory is not None
        truth = read_copick(run.picks_directory)
        grid = targets_as_scores(truth, tomogram.data.shape, tomogram.voxel_angstrom, stride=2)
        found = find_candidates(grid, voxel_angstrom=tomogram.voxel_angstrom, thresholds=[0.3] * len(PARTICLES))
        for position, label in zip(truth.position_zyx_angstrom, truth.label, strict=True):
            offset = found.position_zyx_angstrom[found.label == label] - position
            residuals.append(angstrom_to_index(offset, tomogram.voxel_angstrom)[np.linalg.norm(offset, axis=1).argmin()])
    assert np.abs(np.mean(residuals, axis=0)).max() < 0.1
    assert np.abs(residuals).max() < 0.75


def test_runs_come_back_with_the_picks_of_each_one_alone(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    assert [outcome.run for outcome in outcomes] == [run.name for run in runs]
    model = load_unet(small_model)
    for run, outcome in zip(runs, outcomes, strict=True):
        tomogram = read_tomogram(run)
        alone = pick_tomogram(normalise(tomogram.data), tomogram.voxel_angstrom, model, PickSettings(), CPU)
        assert outcome.picks is not None
        assert outcome.shape_zyx == (40, 72, 88)
        np.testing.assert_array_equal(outcome.picks.position_zyx_angstrom, alone.position_zyx_angstrom)
        np.testing.assert_array_equal(outcome.picks.label, alone.label)


@pytest.mark.slow
def test_two_workers_find_what_one_finds(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    one = {o.run: o.picks for o in pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU])}
    two = {o.run: o.picks for o in pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU, CPU])}
    assert set(one) == set(two)
    for run, picks in one.items():
        other = two[run]
        assert picks is not None
        assert other is not None
        np.testing.assert_allclose(other.position_zyx_angstrom, picks.position_zyx_angstrom, atol=1e-3)


@pytest.mark.slow
def test_runs_of_a_worker_that_dies_are_named_and_the_others_are_done(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    absent = torch.device("cuda", 97)  # moving a network there raises, or the process ends: it cannot pick
    outcomes = {
        o.run: o for o in pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU, absent])
    }
    assert set(outcomes) == {run.name for run in runs}
    assert outcomes[runs[0].name].picks is not None
    assert outcomes[runs[2].name].picks is not None
    assert outcomes[runs[1].name].picks is None
    assert outcomes[runs[1].name].reason


def test_one_bad_tomogram_stops_no_other(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    next((runs[1].tomogram_path / "0").rglob("0")).unlink()
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    assert [outcome.picks is None for outcome in outcomes] == [False, True, False]
    assert runs[1].name in outcomes[1].reason


def test_no_tomogram_is_begun_after_the_deadline(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    late = time.monotonic() - 1.0
    assert list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU], deadline=late)) == []


def test_a_tomogram_is_not_begun_if_the_longest_before_it_would_not_have_fitted(
    labelled_runs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: object) -> Picks:
        time.sleep(0.6)
        return Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))

    monkeypatch.setattr(pipeline, "pick_tomogram", slow)
    runs = find_runs(labelled_runs)
    deadline = time.monotonic() + 1.0
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU], deadline=deadline))
    assert [outcome.run for outcome in outcomes] == [runs[0].name]
