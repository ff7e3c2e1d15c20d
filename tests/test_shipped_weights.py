"""The weights in the package find particles in a tomogram that no network was trained on."""

from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet.jobs import dry_run
from kaggle_cryoet.models.store import load_hybrid, load_unet, load_yolo
from kaggle_cryoet.picking.branches import HYBRID_FOLDER, SHIPPED_WEIGHTS, UNET_FOLDER, YOLO_FOLDER
from kaggle_cryoet.simulation.dataset import simulate

NEVER_TRAINED_ON = 990_001


def test_the_shipped_model_says_where_it_comes_from() -> None:
    provenance = load_unet(SHIPPED_WEIGHTS / UNET_FOLDER).provenance
    for training in provenance.get("average_of", [provenance]):
        assert training["training_runs"]
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


@pytest.mark.slow
def test_the_shipped_weights_find_large_and_small_particles(tmp_path: Path) -> None:
    counts = {"apo-ferritin": 8, "ribosome": 6, "virus-like-particle": 3, "thyroglobulin": 6, "beta-galactosidase": 4}
    simulate(tmp_path / "train", runs=2, shape_zyx=(96, 160, 192), seed=NEVER_TRAINED_ON, counts=counts)
    _, score, _ = dry_run(tmp_path / "train", output=tmp_path / "result", device="cpu")
    assert score.particles["ribosome"].recall >= 0.75
    assert score.particles["apo-ferritin"].recall >= 0.5
    assert score.score >= 0.4
