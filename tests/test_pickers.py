"""Branches: what each needs, what it says if it is not there, and that all of them pick from runs to a csv."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_tomogram import pick_tomogram
from spheres import VOXEL, cut_spheres

from kaggle_cryoet.copick import read_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.jobs import run_prediction
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.models.folder import DESCRIPTION_FILE
from kaggle_cryoet.models.hybrid import FEATURES, HybridModel
from kaggle_cryoet.models.spectrum import SHELLS
from kaggle_cryoet.models.store import YoloModel, load_unet, load_yolo, save_hybrid, save_unet, save_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picking import pickers
from kaggle_cryoet.picking.branches import BRANCHES, find_models
from kaggle_cryoet.picking.choose import best_expected, choose, expected_counts
from kaggle_cryoet.picking.detect import Detections
from kaggle_cryoet.picking.equalise import equalise
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picking.pickers import MODELS_NOTE, load_pickers
from kaggle_cryoet.picking.pipeline import pick_runs
from kaggle_cryoet.picking.segment import ScoreGrid
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import RunLocation, read_tomogram
from kaggle_cryoet.training.targets import draw_targets

CPU = torch.device("cpu")
SHAPE = (40, 72, 88)
HYBRID = HybridModel(
    coefficients=((0.6, 0.6, 0.0, 0.0, 0.0),) * len(PARTICLES),
    thresholds=(0.3,) * len(PARTICLES),
    provenance={"runs": ["none"]},
)
LOW = (0.1,) * len(PARTICLES)


@pytest.fixture(scope="module")
def yolo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    model = YoloModel(network=build_yolo(YoloSettings()), settings=YoloSettings(), thresholds=LOW, provenance={})
    folder = tmp_path_factory.mktemp("models") / "yolo11"
    save_yolo(folder, model)
    return folder


@pytest.fixture
def weights(tmp_path: Path, small_model: Path, yolo_folder: Path) -> Path:
    """A folder with all three models; what the networks find means nothing."""
    folder = tmp_path / "weights"
    shutil.copytree(small_model, folder / "unet3d")
    shutil.copytree(yolo_folder, folder / "yolo11")
    save_hybrid(folder / "hybrid", HYBRID)
    return folder


def test_a_branch_finds_its_models_side_by_side_or_its_only_one(weights: Path) -> None:
    assert find_models("unet", weights) == {"unet3d": weights / "unet3d"}
    assert find_models("yolo", weights / "yolo11") == {"yolo11": weights / "yolo11"}
    assert list(find_models("hybrid", weights)) == ["unet3d", "yolo11", "hybrid"]


@pytest.mark.parametrize(
    ("branch", "missing"), [("hybrid", "hybrid"), ("hybrid", "yolo11"), ("yolo", "yolo11"), ("unet", "unet3d")]
)
def test_a_missing_model_is_an_input_error_that_names_it(weights: Path, branch: str, missing: str) -> None:
    shutil.rmtree(weights / missing)
    with pytest.raises(InputError, match=f"branch {branch} needs the model folders .*; {missing} not found"):
        find_models(branch, weights)


def test_an_unknown_branch_is_an_input_error(weights: Path) -> None:
    with pytest.raises(InputError, match="hybrid or unet or yolo"):
        find_models("both", weights)
    with pytest.raises(InputError, match="unknown branch"):
        PickSettings(branch="both")


def test_a_model_of_another_kind_is_an_input_error(weights: Path, small_model: Path) -> None:
    with pytest.raises(InputError, match="format and kind are"):
        load_pickers("yolo", small_model)


def test_the_hybrid_brings_the_branches_it_can_fall_back_to(weights: Path) -> None:
    assert set(load_pickers("hybrid", weights)) == set(BRANCHES)
    assert set(load_pickers("unet", weights)) == {"unet"}


def test_a_hybrid_that_was_fitted_with_other_weights_says_so(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_hybrid(weights / "hybrid", replace(HYBRID, provenance={MODELS_NOTE: {"yolo11": "0" * 64}}))
    with caplog.at_level(logging.WARNING):
        load_pickers("hybrid", weights)
    assert "fitted with another yolo11" in caplog.text


@pytest.mark.parametrize(("branch", "folder"), [("unet", "unet3d"), ("yolo", "yolo11"), ("hybrid", "hybrid")])
def test_the_model_that_decides_says_so_if_it_is_not_calibrated(
    weights: Path, branch: str, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    description = weights / folder / DESCRIPTION_FILE
    content = json.loads(description.read_text(encoding="utf8"))
    for calibration in ({name: [1.0, 0.0] for name in PARTICLE_NAMES}, None):
        description.write_text(json.dumps({**content, "calibration": calibration}), encoding="utf8")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            load_pickers(branch, weights)
        expected = (
            []
            if calibration
            else [f"{weights / folder} has no calibration: what is above its thresholds is picked; fit them anew"]
        )
        assert caplog.messages == expected


def test_a_model_that_is_calibrated_picks_what_is_expected_to_score_best_unless_thresholds_are_asked_for() -> None:
    rng = np.random.default_rng(5)
    label, score = rng.integers(0, 6, 200), rng.random(200)
    candidates = Picks(position_zyx_angstrom=rng.random((200, 3)), label=label, score=score)
    calibration = Calibration(slope=(2.0,) * 6, offset=(-1.5,) * 6)
    calibrated = replace(HYBRID, calibration=calibration)
    expected = expected_counts(SHAPE, 10.0)
    likely = choose(candidates, calibrated, expected)
    best = best_expected(candidates, calibration.probability(score, label), expected)
    np.testing.assert_array_equal(likely.score, best.score)
    for model, strict in ((HYBRID, False), (calibrated, True), (HYBRID, True)):
        by_thresholds = choose(candidates, model, expected, strict=strict)
        np.testing.assert_array_equal(by_thresholds.score, score[score > 0.3])
    assert len(likely) != len(by_thresholds)


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_branch_picks_runs_to_a_csv(labelled_runs: Path, weights: Path, tmp_path: Path, branch: str) -> None:
    (run, *_) = find_runs(labelled_runs)
    output = tmp_path / "submission.csv"
    prediction = run_prediction(labelled_runs, output=output, branch=branch, weights=weights, run_names=[run.name])
    assert list(prediction.picks) == [run.name]
    assert output.read_text().startswith("id,experiment,particle_type,x,y,z")


def test_what_was_begun_with_another_yolo_is_not_gone_on_with(
    labelled_runs: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pickers, "segment", lambda *a, **k: ScoreGrid(score=np.zeros((6, 20, 36, 44)), stride=2))
    monkeypatch.setattr(pickers, "detect", lambda *a, **k: cut_spheres(nothing(), np.arange(40)))
    names = [run.name for run in find_runs(labelled_runs)]
    chunk = next(path for path in (find_runs(labelled_runs)[2].tomogram_path / "0").glob("*/*/*") if path.is_file())
    chunk.unlink()
    options: dict[str, Any] = {"output": tmp_path / "s.csv", "branch": "hybrid", "weights": weights, "go_on": True}
    assert list(run_prediction(labelled_runs, **options).failed) == names[2:]
    path = weights / "yolo11" / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "changed"}))
    run_prediction(labelled_runs, **options)
    assert "begun with other settings or weights" in caplog.text


SPECTRUM = tuple(float(amplitude) for amplitude in np.linspace(20, 0.1, SHELLS))


@pytest.mark.parametrize("spectra", [((), ()), (SPECTRUM, ()), ((), SPECTRUM), (SPECTRUM, SPECTRUM)])
def test_each_network_is_shown_the_spectrum_it_knows(
    labelled_runs: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, spectra: tuple[tuple[float, ...], ...]
) -> None:
    for folder, load, save, spectrum in (
        ("unet3d", load_unet, save_unet, spectra[0]),
        ("yolo11", load_yolo, save_yolo, spectra[1]),
    ):
        model: Any = load(weights / folder)
        save(weights / folder, replace(model, settings=replace(model.settings, spectrum=spectrum)))
    empty = ScoreGrid(score=np.zeros((6, 20, 36, 44), dtype=np.float32), stride=2)
    shown: dict[str, Any] = {}
    monkeypatch.setattr(pickers, "segment", lambda network, volume, **_: (shown.update(unet=volume), empty)[1])
    nothing_seen = cut_spheres(nothing(), np.arange(40))
    monkeypatch.setattr(pickers, "detect", lambda network, volume, *_: (shown.update(yolo=volume), nothing_seen)[1])
    run = find_runs(labelled_runs)[0]
    list(pick_runs([run], weights, settings=PickSettings(branch="hybrid"), devices=[CPU]))
    volume = normalise(read_tomogram(run).data)
    for name, spectrum in zip(("unet", "yolo"), spectra, strict=True):
        np.testing.assert_array_equal(shown[name], equalise(volume, spectrum))
    assert (shown["unet"] is shown["yolo"]) is (spectra[0] == spectra[1])  # equalised once


def nothing() -> Picks:
    return Picks(position_zyx_angstrom=np.empty((0, 3)), label=np.empty(0, dtype=np.int64))


def score_of(found: Picks, truth: Picks) -> float:
    """Below 1 for the truth itself, as not every type is in it."""
    return evaluate({"run": found}, {"run": truth}).score


def perfect(truth: Picks) -> tuple[ScoreGrid, Detections]:
    """What perfect networks see."""
    grid = tuple(edge // 2 for edge in SHAPE)
    score = draw_targets(truth, shape_zyx=grid, stride=2, voxel_angstrom=VOXEL)  # type: ignore[arg-type]
    return ScoreGrid(score=score, stride=2), cut_spheres(truth, np.arange(SHAPE[0]))


@pytest.fixture
def labelled(labelled_runs: Path) -> tuple[RunLocation, Picks]:
    (run, *_) = find_runs(labelled_runs)
    assert run.picks_directory is not None
    return run, read_copick(run.picks_directory)


@pytest.mark.parametrize("branch", BRANCHES)
def test_perfect_networks_give_a_perfect_score_by_every_branch(
    weights: Path, labelled: tuple[RunLocation, Picks], monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    _, truth = labelled
    grid, boxes = perfect(truth)
    monkeypatch.setattr(pickers, "segment", lambda *a, **k: grid)
    monkeypatch.setattr(pickers, "detect", lambda *a, **k: boxes)
    picker = load_pickers(branch, weights)[branch]
    found = pick_tomogram(np.zeros(SHAPE, np.float32), VOXEL, picker, PickSettings(branch=branch), CPU)
    assert len(found) == len(truth)
    assert score_of(found, truth) == score_of(truth, truth)


def test_the_hybrid_rescues_what_either_branch_misses(
    weights: Path, labelled: tuple[RunLocation, Picks], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, truth = labelled
    half = np.arange(len(truth)) % 2 == 0
    grid, boxes = perfect(truth.select(half))[0], perfect(truth.select(~half))[1]
    monkeypatch.setattr(pickers, "segment", lambda *a, **k: grid)
    monkeypatch.setattr(pickers, "detect", lambda *a, **k: boxes)
    generous = replace(HYBRID, coefficients=((0.6, 0.6, 0.0, 0.0, 4.0),) * len(PARTICLES))
    save_hybrid(weights / "hybrid", generous)
    scores = {}
    for branch in BRANCHES:
        picker = load_pickers(branch, weights)[branch]
        found = pick_tomogram(np.zeros(SHAPE, np.float32), VOXEL, picker, PickSettings(branch=branch), CPU)
        scores[branch] = score_of(found, truth)
    assert scores["hybrid"] == score_of(truth, truth)
    assert max(scores["unet"], scores["yolo"]) < 0.8 * score_of(truth, truth)


def test_when_time_is_short_the_hybrid_goes_on_by_one_branch(
    labelled_runs: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, looked = [100.0], []

    def takes(seconds: float, what: str, answer: Any) -> Any:
        def network(*arguments: Any, **options: Any) -> Any:
            now[0] += seconds
            looked.append(what)
            return answer

        return network

    monkeypatch.setattr("kaggle_cryoet.picking.pipeline.time.monotonic", lambda: now[0])
    empty = ScoreGrid(score=np.zeros((6, 20, 36, 44), dtype=np.float32), stride=2)
    monkeypatch.setattr(pickers, "segment", takes(60.0, "unet", empty))
    monkeypatch.setattr(pickers, "detect", takes(40.0, "yolo", cut_spheres(nothing(), np.arange(40))))
    runs = [replace(run, name=f"{run.name} {n}") for n in range(2) for run in find_runs(labelled_runs)]
    settings = PickSettings(branch="hybrid")
    outcomes = list(pick_runs(runs, weights, settings=settings, devices=[CPU], deadline=100.0 + 520.0))
    assert [outcome.picks is not None for outcome in outcomes] == [True] * 6
    assert looked[:2] == ["unet", "yolo"]
    assert len(looked) < 12
    assert "going on by" in caplog.text


def test_classes_in_another_order_are_an_input_error(weights: Path) -> None:
    path = weights / "yolo11" / DESCRIPTION_FILE
    content = json.loads(path.read_text())
    assert content["classes"] == [particle.name for particle in PARTICLES]
    path.write_text(json.dumps(content | {"classes": content["classes"][::-1]}))
    with pytest.raises(InputError, match="for the classes"):
        load_yolo(path.parent)
    path.write_text(json.dumps(content | {"classes": content["classes"][:5]}))
    with pytest.raises(InputError, match="for the classes"):
        load_yolo(path.parent)


def test_features_of_another_version_are_an_input_error(weights: Path) -> None:
    path = weights / "hybrid" / DESCRIPTION_FILE
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"features": list(FEATURES[::-1])}))
    with pytest.raises(InputError, match="for the features"):
        load_pickers("hybrid", weights)
