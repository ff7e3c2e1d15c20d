"""The weights in the package find particles in a tomogram that no network was trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import affine_transform, gaussian_filter

from kaggle_cryoet.cli import cli
from kaggle_cryoet.dry_run import dry_run
from kaggle_cryoet.models.store import load_hybrid, load_unet, load_yolo
from kaggle_cryoet.particles import PARTICLES, label_of
from kaggle_cryoet.picking.branches import HYBRID_FOLDER, SHIPPED_WEIGHTS, UNET_FOLDER, YOLO_FOLDER
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.simulation.dataset import simulate
from kaggle_cryoet.submission import read_submission
from kaggle_cryoet.tomogram import read_tomogram, write_tomogram

NEVER_TRAINED_ON = 990_001


def trainings_of(provenance: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Every training that a model has behind it."""
    if provenance is None:
        return
    if "training_runs" in provenance:
        yield provenance
    for before in (provenance.get("started_from"), *provenance.get("average_of", [])):
        yield from trainings_of(before if isinstance(before, Mapping) else None)


def test_the_shipped_model_says_where_it_comes_from() -> None:
    trainings = list(trainings_of(load_unet(SHIPPED_WEIGHTS / UNET_FOLDER).provenance))
    assert len(trainings) > 1
    for training in trainings:
        assert not set(training["training_runs"]) & set(training["validation_runs"])
        assert not any(f"_{NEVER_TRAINED_ON}_" in run for run in training["training_runs"])


def test_every_shipped_model_knows_how_likely_its_candidates_are() -> None:
    for model in (
        load_unet(SHIPPED_WEIGHTS / UNET_FOLDER),
        load_yolo(SHIPPED_WEIGHTS / YOLO_FOLDER),
        load_hybrid(SHIPPED_WEIGHTS / HYBRID_FOLDER),
    ):
        assert model.calibration is not None
        probability = model.calibration.probability(np.full(6, 0.999), np.arange(6))
        assert np.all(probability > model.calibration.probability(np.full(6, 0.05), np.arange(6)))


def test_a_bright_tomogram_with_voxels_of_another_size_is_picked_like_the_one_it_was(tmp_path: Path) -> None:
    """Sampled at 13 Å by splines, its grey values turned over, and said to have voxels of 1 Å."""
    simulate(tmp_path / "train", runs=1, shape_zyx=(96, 128, 128), seed=NEVER_TRAINED_ON, counts={"ribosome": 8})
    (run,) = find_runs(tmp_path / "train")
    tomogram = read_tomogram(run)
    factor = 13.0 / tomogram.voxel_angstrom
    shape = tuple(int((edge - 1) / factor) + 1 for edge in tomogram.data.shape)
    coarse = affine_transform(gaussian_filter(tomogram.data, 0.4), [factor] * 3, output_shape=shape)
    write_tomogram(tmp_path / f"{run.name}.zarr", replace(tomogram, data=-coarse, voxel_angstrom=1.0), levels=1)
    ribosomes = []
    for directory, options in (("train", []), (f"{run.name}.zarr", ["--voxel", "13"])):
        arguments = [str(tmp_path / directory), "--output", str(tmp_path / f"{directory}.csv"), "--strict", *options]
        done = CliRunner().invoke(cli, ["predict", *arguments])
        assert done.exit_code == 0, done.output
        found = read_submission(tmp_path / f"{directory}.csv", experiments={run.name})[run.name]
        ribosomes.append(found.position_zyx_angstrom[found.label == label_of("ribosome")])
    assert len(ribosomes[0]) == len(ribosomes[1]) >= 6
    distance = np.linalg.norm(ribosomes[0][:, None] - ribosomes[1], axis=-1).min(axis=1)
    assert np.median(distance) < 5
    assert distance.max() < 0.25 * PARTICLES[label_of("ribosome")].radius_angstrom  # half of what a hit may be off


@pytest.mark.slow
def test_the_shipped_weights_find_large_and_small_particles(tmp_path: Path) -> None:
    counts = {"apo-ferritin": 8, "ribosome": 6, "virus-like-particle": 3, "thyroglobulin": 6, "beta-galactosidase": 4}
    simulate(tmp_path / "train", runs=2, shape_zyx=(96, 160, 192), seed=NEVER_TRAINED_ON, counts=counts)
    _, score, _ = dry_run(tmp_path / "train", output=tmp_path / "result", device="cpu")
    assert score.particles["ribosome"].recall >= 0.75
    assert score.particles["apo-ferritin"].recall >= 0.5
    assert score.score >= 0.4
