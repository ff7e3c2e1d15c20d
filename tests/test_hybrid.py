"""The hybrid as it is fitted: the likeliest coefficients, honest scores, a folder that picks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.hybrid import FEATURES
from kaggle_cryoet.models.store import YoloModel, load_hybrid, save_yolo
from kaggle_cryoet.models.yolo11 import YoloSettings, build_yolo
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picking.fuse import Candidates
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.training.calibration import find_hits
from kaggle_cryoet.training.hybrid import Examples, compare, fit_hybrid, fit_hybrid_folder
from kaggle_cryoet.training.logistic import fit_logistic


def test_the_coefficients_are_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3)) * [1, 4, 0.5]
    hit = rng.random(300) < 1 / (1 + np.exp(-(features @ [1.0, -0.5, 2.0] + 0.7)))
    prior, strength = np.array([0.5, 0.0, 0.0, -1.0]), 3.0

    def loss(c: np.ndarray) -> float:
        exponent = features @ c[:3] + c[3]
        return float((np.logaddexp(0, exponent) - hit * exponent).sum() + 0.5 * strength * ((c - prior) ** 2).sum())

    expected = minimize(loss, prior, method="BFGS", options={"gtol": 1e-6}).x
    np.testing.assert_allclose(fit_logistic(features, hit, prior, strength), expected, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_without_examples_the_prior_stays_and_one_class_alone_is_no_trouble(count: int) -> None:
    prior = np.array([0.5, 0.5, 0.0])
    found = fit_logistic(np.ones((count, 2)), np.ones(count, dtype=bool), prior, 2.0)
    assert np.isfinite(found).all()
    assert (found >= prior).all()
    assert count or found.tolist() == prior.tolist()


def test_separable_examples_with_wide_features_converge() -> None:
    features = np.array([[-500.0], [-300], [200], [900]])
    found = fit_logistic(features, features[:, 0] > 0, np.zeros(2), 1e-3)
    assert np.isfinite(found).all()
    assert found[0] > 0


def a_specimen(seed: int, hidden_from_unet: float, hidden_from_yolo: float) -> tuple[Candidates, Picks, Picks, Picks]:
    """Particles of which each branch misses some, and false candidates that each has of its own."""
    rng = np.random.default_rng(seed)
    count, false = 40, 60
    parts = []
    for label in range(len(PARTICLES)):
        cell = rng.permutation(8000)[: count + false]  # 500 Å apart
        position = np.stack(np.unravel_index(cell, (20, 20, 20)), axis=1) * 500.0
        is_true = np.arange(count + false) < count
        unet = np.clip(rng.normal(np.where(is_true, 0.7, 0.25), 0.12), 0.02, 0.99)
        yolo = np.clip(rng.normal(np.where(is_true, 0.7, 0.25), 0.12), 0.02, 0.99)
        unet[rng.random(count + false) < np.where(is_true, hidden_from_unet, 0.5)] = 0.005
        yolo[rng.random(count + false) < np.where(is_true, hidden_from_yolo, 0.5)] = 0.005
        parts.append((position, np.full(len(position), label), is_true, unet, yolo))
    position, label, is_true, unet, yolo = (np.concatenate(part) for part in zip(*parts, strict=True))
    columns = {
        "unet_logit": np.log(unet / (1 - unet)),
        "yolo_logit": np.log(yolo / (1 - yolo)),
        "found_by_unet": (unet > 0.005).astype(float),
        "found_by_yolo": (yolo > 0.005).astype(float),
    }
    features = np.column_stack([columns[name] for name in FEATURES])
    everything = Picks(position_zyx_angstrom=position, label=label, score=np.maximum(unet, yolo))
    by_unet = Picks(position_zyx_angstrom=position, label=label, score=unet).select(unet > 0.005)
    by_yolo = Picks(position_zyx_angstrom=position, label=label, score=yolo).select(yolo > 0.005)
    truth = everything.select(is_true)
    return Candidates(picks=everything, features=features), by_unet, by_yolo, truth


@pytest.fixture(scope="module")
def examples() -> Examples:
    made = {f"run {seed}": a_specimen(seed, 0.15, 0.15) for seed in range(3)}
    return Examples(
        candidates={run: parts[0] for run, parts in made.items()},
        unet={run: parts[1] for run, parts in made.items()},
        yolo={run: parts[2] for run, parts in made.items()},
        truth={run: parts[3] for run, parts in made.items()},
        expected=dict.fromkeys(made, np.full(len(PARTICLES), 40.0)),
    )


def test_of_branches_that_miss_different_particles_the_hybrid_is_better_than_either(examples: Examples) -> None:
    scores = {name: score.score for name, score in compare(examples, 1.0).items()}
    assert set(scores) == {"unet", "yolo", "mean", "hybrid"}
    assert scores["hybrid"] > max(scores["unet"], scores["yolo"]) + 0.05
    assert scores["hybrid"] >= scores["mean"] - 0.02


def test_probabilities_are_calibrated(examples: Examples) -> None:
    model = fit_hybrid(examples, 1.0)
    candidates = examples.candidates["run 0"]
    probability = model.probability(candidates.features, candidates.picks.label)
    hit = find_hits(candidates.picks, examples.truth["run 0"])
    assert probability.mean() == pytest.approx(hit.mean(), abs=0.03)
    unsure = (probability > 0.2) & (probability < 0.8)
    assert abs(probability[unsure].mean() - hit[unsure].mean()) < 0.25
    assert all(0 < threshold < 1 for threshold in model.thresholds)


def test_a_type_that_nobody_labelled_keeps_what_decides_about_it(examples: Examples) -> None:
    """What is learned of the others is what is learned of them with all labels."""
    vlp = label_of("virus-like-particle")
    without = replace(examples, truth={run: picks.select(picks.label != vlp) for run, picks in examples.truth.items()})
    whole = fit_hybrid(examples, 1.0)
    kept, fresh = fit_hybrid(without, 1.0, known=whole), fit_hybrid(without, 1.0)
    assert kept.coefficients == whole.coefficients
    assert kept.thresholds == whole.thresholds
    assert kept.calibration == whole.calibration
    assert fresh.coefficients[:vlp] == whole.coefficients[:vlp]
    assert fresh.coefficients[vlp] == (0.5, 0.5, 0.0, 0.0, 0.0)  # the mean of both
    assert fresh.thresholds == (*whole.thresholds[:vlp], 0.5)
    assert fresh.calibration is not None
    assert (fresh.calibration.slope[vlp], fresh.calibration.offset[vlp]) == (1.0, 0.0)
    scores = compare(without, 1.0, known=whole)
    assert scores["hybrid"].particles["virus-like-particle"].predicted > 40  # of 3 x 40 that are there


def test_a_hit_is_within_half_a_radius_of_a_particle_of_its_type() -> None:
    truth = Picks(position_zyx_angstrom=np.array([[0.0, 0, 0], [0, 0, 900]]), label=np.array([0, 3]))
    position = np.array([[0.0, 0, 30], [0, 0, 30.1], [0, 74, 900], [0, 0, 0], [0, 0, 900]])
    picks = Picks(position_zyx_angstrom=position, label=np.array([0, 0, 3, 3, 1]))
    assert find_hits(picks, truth).tolist() == [True, False, True, False, False]


def test_a_hybrid_is_fitted_to_labelled_runs_and_its_folder_picks(
    labelled_runs: Path, small_model: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(small_model, weights / "unet3d")
    with pytest.raises(InputError, match="no yolo11"):
        fit_hybrid_folder([labelled_runs], weights)
    torch.manual_seed(4)
    network = build_yolo(YoloSettings())
    save_yolo(
        weights / "yolo11",
        YoloModel(network=network, settings=YoloSettings(), thresholds=(0.1,) * 6, provenance={}),
    )
    fit = fit_hybrid_folder([labelled_runs], weights, device="cpu")
    loaded = load_hybrid(weights / "hybrid")
    assert loaded.coefficients == fit.model.coefficients
    assert loaded.provenance["runs"] == [run.name for run in find_runs(labelled_runs)]
    assert set(loaded.provenance["models"]) == {"unet3d", "yolo11"}
    assert loaded.provenance["left_out_scores"]["hybrid"]["score"] == fit.scores["hybrid"].score
