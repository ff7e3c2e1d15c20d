"""From runs to picks: the identity run, planted particles, bad tomograms, time limits, several workers."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_tomogram import pick_tomogram
from scipy.spatial import KDTree

from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.geometry import angstrom_to_index
from kaggle_cryoet.jobs import evaluate
from kaggle_cryoet.models.store import load_unet
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking import pickers, pipeline
from kaggle_cryoet.picking.candidates import LocaliseSettings, find_candidates
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.pickers import UNetPicker
from kaggle_cryoet.picking.pipeline import pick_on_device, pick_runs
from kaggle_cryoet.picking.segment import ScoreGrid, SegmentSettings, segment
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.simulation.dataset import simulate
from kaggle_cryoet.submission import read_submission, write_submission
from kaggle_cryoet.tomogram import RunLocation, read_tomogram
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
        index = angstrom_to_index(truth.position_zyx_angstrom, tomogram.voxel_angstrom)
        inside = np.all((index > 3) & (index < np.array(tomogram.data.shape) - 4), axis=1)  # not refined at the border
        assert inside.sum() > 25
        for position, label in zip(truth.position_zyx_angstrom[inside], truth.label[inside], strict=True):
            offset = found.position_zyx_angstrom[found.label == label] - position
            residuals.append(
                angstrom_to_index(offset, tomogram.voxel_angstrom)[np.linalg.norm(offset, axis=1).argmin()]
            )
    assert np.abs(np.mean(residuals, axis=0)).max() < 0.1
    assert np.abs(residuals).max() < 0.5


def test_runs_come_back_with_the_picks_of_each_one_alone(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    assert [outcome.run for outcome in outcomes] == [run.name for run in runs]
    picker = UNetPicker(model=load_unet(small_model))
    for run, outcome in zip(runs, outcomes, strict=True):
        tomogram = read_tomogram(run)
        alone = pick_tomogram(normalise(tomogram.data), tomogram.voxel_angstrom, picker, PickSettings(), CPU)
        assert outcome.picks is not None
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
        assert other.label.tolist() == picks.label.tolist()
        # with another number of threads sums are rounded in another way, which flat peaks and near ties make visible
        for label in range(len(PARTICLES)):
            places = (some.position_zyx_angstrom[some.label == label] for some in (picks, other))
            assert_same_places(*places)


def assert_same_places(one: np.ndarray, other: np.ndarray) -> None:
    """Whether each of `(n, 3)` places in ångström has one of its own among as many others, within 0.01 Å."""
    if len(one):
        distance, index = KDTree(other).query(one)
        assert distance.max() < 0.01
        assert len(set(index.tolist())) == len(one) == len(other)


@dataclass(frozen=True, kw_only=True)
class Deadly(RunLocation):
    """A run that ends the process that reads it."""

    parent: int

    def __getattribute__(self, name: str) -> Any:
        if name == "tomogram_path" and os.getpid() != super().__getattribute__("parent"):
            os._exit(7)
        return super().__getattribute__(name)


def deadly(run: RunLocation) -> Deadly:
    return Deadly(
        name=run.name, tomogram_path=run.tomogram_path, picks_directory=run.picks_directory, parent=os.getpid()
    )


@pytest.mark.slow
def test_a_worker_that_dies_at_a_tomogram_is_replaced_and_only_that_one_fails(
    labelled_runs: Path, small_model: Path
) -> None:
    first, second, third = find_runs(labelled_runs)
    runs = [first, second, replace(first, name="first again"), replace(second, name="second again"), deadly(third)]
    outcomes = {o.run: o for o in pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU, CPU])}
    assert set(outcomes) == {run.name for run in runs}
    assert [name for name, outcome in outcomes.items() if outcome.picks is None] == [third.name]
    assert "exit status 7" in outcomes[third.name].reason


@pytest.mark.slow
def test_two_tomograms_in_a_row_that_end_their_processes_cost_no_other(labelled_runs: Path, small_model: Path) -> None:
    first, second, third = find_runs(labelled_runs)
    hopeless = [replace(deadly(second), name=f"hopeless {n}") for n in range(2)]
    runs = [first, hopeless[0], third, hopeless[1], replace(first, name="again"), replace(third, name="the last")]
    outcomes = {o.run: o for o in pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU, CPU])}
    assert set(outcomes) == {run.name for run in runs}
    assert {name for name, o in outcomes.items() if o.picks is None} == {run.name for run in hopeless}
    assert outcomes["hopeless 1"].reason == "the worker on cpu died with exit status 7"


@dataclass(frozen=True, kw_only=True)
class DeadlyOnce(Deadly):
    """A run that ends the first process that reads it."""

    traces: Path

    def __getattribute__(self, name: str) -> Any:
        if name == "tomogram_path" and os.getpid() != object.__getattribute__(self, "parent"):
            try:
                object.__getattribute__(self, "traces").mkdir()
            except FileExistsError:
                return object.__getattribute__(self, name)
        return super().__getattribute__(name)


@pytest.mark.slow
def test_a_run_that_is_a_share_by_itself_is_tried_again(labelled_runs: Path, small_model: Path, tmp_path: Path) -> None:
    first, second, _ = find_runs(labelled_runs)
    once = DeadlyOnce(
        name=second.name,
        tomogram_path=second.tomogram_path,
        picks_directory=None,
        parent=os.getpid(),
        traces=tmp_path / "traces",
    )
    outcomes = {o.run: o for o in pick_runs([first, once], small_model, settings=PickSettings(), devices=[CPU, CPU])}
    assert (tmp_path / "traces").is_dir()
    assert outcomes[second.name].picks is not None


class Broken:
    """A device that ends every process that is told of it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)

    def __str__(self) -> str:
        return "broken"


@pytest.mark.slow
def test_the_share_of_a_device_on_which_every_process_dies_is_picked_by_another(
    labelled_runs: Path, small_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = find_runs(labelled_runs)
    runs = [first, second, third, *(replace(second, name=f"again {n}") for n in range(4))]
    devices: list[Any] = [CPU, Broken()]
    outcomes = {o.run: o for o in pick_runs(runs, small_model, settings=PickSettings(), devices=devices)}
    assert set(outcomes) == {run.name for run in runs}
    assert "the 5th in a row; another device goes on" in caplog.text
    failed = {name for name, o in outcomes.items() if o.picks is None}
    assert failed == {second.name, "again 0"}, "each tried twice, before the fifth death"


@pytest.mark.slow
def test_a_script_without_a_guard_is_not_run_by_the_workers(
    labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from unittest.mock import patch\n"
        "import torch\n"
        "from kaggle_cryoet import predict\n"
        "print('begun')\n"
        "with patch('kaggle_cryoet.picking.devices.choose_devices', lambda name: [torch.device('cpu')] * 2):\n"
        f"    predict({str(labelled_runs)!r}, 'picks.csv', weights={str(small_model)!r}, branch='unet')\n"
        "print(__file__, __spec__)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == f"begun\n{script} None\n", done.stderr
    assert set(read_submission(tmp_path / "picks.csv")) == {run.name for run in find_runs(labelled_runs)}


def test_a_gpu_that_stops_working_is_replaced_by_the_cpu_without_losing_a_tomogram(
    labelled_runs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = find_runs(labelled_runs)
    expected = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    gpu = torch.device("cuda", 97)
    calls = []

    def breaks_down(*arguments: Any, device: torch.device, **options: Any) -> ScoreGrid:
        calls.append(device)
        if device == gpu and len(calls) > 1:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return segment(*arguments, device=CPU, **options)

    monkeypatch.setattr(pickers, "segment", breaks_down)
    monkeypatch.setattr(pipeline, "probe", lambda device: "an illegal memory access was encountered")
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[gpu]))
    assert calls == [gpu, gpu, CPU, CPU]
    assert "going on with the CPU" in caplog.text
    for outcome, other in zip(outcomes, expected, strict=True):
        assert outcome.picks is not None
        assert other.picks is not None
        np.testing.assert_array_equal(outcome.picks.position_zyx_angstrom, other.picks.position_zyx_angstrom)


def test_one_bad_tomogram_stops_no_other(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    chunk = next(path for path in (runs[1].tomogram_path / "0").glob("*/*/*") if path.is_file())
    chunk.unlink()
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    assert [outcome.picks is None for outcome in outcomes] == [False, True, False]
    assert runs[1].name in outcomes[1].reason


def test_an_error_that_nobody_foresaw_fails_one_run_and_is_told_with_its_place(
    labelled_runs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = find_runs(labelled_runs)
    genuine = pipeline.read_adapted

    def broken(run: RunLocation, *options: Any) -> Any:
        if run == runs[1]:
            raise KeyError("shards")
        return genuine(run, *options)

    monkeypatch.setattr(pipeline, "read_adapted", broken)
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU]))
    assert [(outcome.picks is None, outcome.reason) for outcome in outcomes] == [
        (False, ""),
        (True, "KeyError: 'shards'"),
        (False, ""),
    ]
    assert f"{runs[1].name}: an error that nobody foresaw" in caplog.text
    assert 'raise KeyError("shards")' in caplog.text


def test_no_tomogram_is_begun_after_the_deadline(labelled_runs: Path, small_model: Path) -> None:
    runs = find_runs(labelled_runs)
    late = time.monotonic() - 1.0
    assert list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU], deadline=late)) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still but for what a test adds to it."""
    now = [1000.0]
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: now[0])
    return now


def test_a_tomogram_is_not_begun_if_the_longest_before_it_would_not_have_fitted(
    labelled_runs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    def slow(*arguments: object, **options: object) -> ScoreGrid:
        clock[0] += 0.6
        return ScoreGrid(score=np.zeros((6, 20, 36, 44), dtype=np.float32), stride=2)

    monkeypatch.setattr(pickers, "segment", slow)
    runs = find_runs(labelled_runs)
    deadline = clock[0] + 1.0
    outcomes = list(pick_runs(runs, small_model, settings=PickSettings(), devices=[CPU], deadline=deadline))
    assert [outcome.run for outcome in outcomes] == [runs[0].name]


def test_flips_are_saved_when_the_forecast_is_beyond_the_deadline_so_that_no_tomogram_is_lost(
    labelled_runs: Path,
    small_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: list[float],
) -> None:
    used = []

    def takes_a_tenth_of_a_second_per_flip(*arguments: Any, settings: SegmentSettings, **options: Any) -> ScoreGrid:
        used.append(settings.flips)
        clock[0] += 0.1 * settings.flips
        return ScoreGrid(score=np.zeros((6, 20, 36, 44), dtype=np.float32), stride=2)

    monkeypatch.setattr(pickers, "segment", takes_a_tenth_of_a_second_per_flip)
    runs = [replace(run, name=f"{run.name} {n}") for n in range(2) for run in find_runs(labelled_runs)]
    wished = PickSettings(segment=SegmentSettings(flips=8))
    outcomes = list(pick_runs(runs, small_model, settings=wished, devices=[CPU], deadline=clock[0] + 3.0))
    assert [outcome.picks is not None for outcome in outcomes] == [True] * 6
    assert used[0] == 8
    assert used[1] < 8
    assert "going on by unet" in caplog.text
    for others, enough in ((0, True), (4, False)):  # which wait for the same device
        used.clear()
        deadline = clock[0] + 3.0
        assert len(list(pick_on_device(runs[:2], small_model, wished, CPU, deadline, partial(int, others)))) == 2
        assert (used == [8, 8]) == enough
