"""Changes to tomograms that a benchmark makes."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from benchmarks.branches import pick_by_all, score_table
from benchmarks.changes import CHANGES, GOLD_BEADS, changed, main
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.metric import evaluate
from kaggle_cryoet.picking.normalise import median_and_spread
from kaggle_cryoet.picking.pickers import load_pickers
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import Tomogram, read_tomogram

SHAPE = (40, 50, 60)


def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(7, 2, SHAPE).astype(np.float32)


def added_by(name: str) -> NDArray[np.float64]:
    """By how much, in spreads."""
    volume = noise()
    return (
        np.asarray(CHANGES[name](volume, np.random.default_rng(1)) - volume, np.float64) / median_and_spread(volume)[1]
    )


def test_ramps_and_bowls_are_as_high_as_they_say() -> None:
    for name, axis in (("ramp along x, 3 spreads each way", 2), ("ramp along z, 3 spreads each way", 0)):
        ends = np.moveaxis(added_by(name), axis, 0)
        np.testing.assert_allclose(
            [ends[0], ends[-1]], [np.full(ends[0].shape, -3), np.full(ends[0].shape, 3)], atol=1e-4
        )
    bowl = added_by("bowl of 6 spreads")
    assert bowl[0, 0, 0] == pytest.approx(6, abs=1e-4)
    assert bowl[20, 25, 30] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("name", "spreads"), [("white noise of 2 spreads", 2), ("smooth noise of 1 spread", 1)])
def test_noise_is_as_strong_as_it_says(name: str, spreads: float) -> None:
    added = added_by(name)
    assert added.std() == pytest.approx(spreads, rel=1e-3)
    neighbours = np.corrcoef(added[..., 1:].ravel(), added[..., :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(0 if name.startswith("white") else np.exp(-1 / 16), abs=0.03)  # exp(-d²/4σ²)


def test_bytes_are_clipped_and_few() -> None:
    made = CHANGES["8 bits, 5 % clipped on each side"](noise(), np.random.default_rng(1))
    assert set(np.unique(made)) <= set(range(256))
    assert np.mean(made == 0) == pytest.approx(0.05, abs=0.005)
    assert np.mean(made == 255) == pytest.approx(0.05, abs=0.005)


def test_contrast_and_background_are_the_same_everywhere_once_they_are_made_so() -> None:
    uneven = noise() * np.linspace(1, 5, SHAPE[2], dtype=np.float32)
    made = CHANGES["local contrast"](uneven, np.random.default_rng(1))
    assert made[..., :20].std() == pytest.approx(made[..., -20:].std(), rel=0.3)
    assert uneven[..., -20:].std() > 2 * uneven[..., :20].std()
    level = CHANGES["without what is slower than 8 voxels"](uneven, np.random.default_rng(1))
    assert abs(level[..., -20:].mean() - level[..., :20].mean()) < 0.1 * abs(uneven[..., -20:].mean())


def test_gold_is_dark_and_round() -> None:
    dark = added_by("gold beads") < -25
    assert GOLD_BEADS * 400 < dark.sum() < GOLD_BEADS * 530  # 4/3 pi 5³ = 524, some over each other


def test_sharpening_undoes_a_blur_in_part() -> None:
    volume = np.zeros((21, 21, 21), np.float32)
    volume[10, 10, 10] = 1
    rng = np.random.default_rng(1)
    blurred = np.asarray(CHANGES["blurred by 1 voxel"](volume, rng), np.float32)
    sharpened = CHANGES["sharpened"](blurred, rng)
    assert blurred[10, 10, 10] < 0.5 * sharpened[10, 10, 10] < 0.5
    assert sharpened.sum() == pytest.approx(1, abs=1e-3)


def test_gamma_keeps_sides() -> None:
    for name, power in (("gamma 0.6", 0.6), ("gamma 1.6", 1.6)):
        made = CHANGES[name](noise(), np.random.default_rng(1))
        median, spread = median_and_spread(noise())
        np.testing.assert_allclose(
            np.abs(made) ** (1 / power) * np.sign(made) * spread + median, noise(), rtol=1e-3, atol=1e-4
        )


def test_chance_is_that_of_the_tomogram_and_the_change() -> None:
    one, other = (Tomogram(data=noise(), voxel_angstrom=10.0, name=name) for name in ("TS_1", "TS_2"))
    gold = changed(one, "gold beads").data
    np.testing.assert_array_equal(changed(one, "gold beads").data, gold)
    assert (changed(other, "gold beads").data != gold).any()
    np.testing.assert_array_equal(changed(one, "none").data, one.data)


def test_tomograms_are_scored_as_they_are_picked(labelled_runs: Path, small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    small_model.rename(tmp_path / "weights" / "unet3d")
    run, settings = find_runs(labelled_runs)[0], PickSettings(branch="unet")
    pickers = {"unet": load_pickers("unet", tmp_path / "weights")["unet"]}
    picks = pick_by_all(changed(read_tomogram(run), "gold beads"), pickers, settings)["unet"]
    assert len(picks)
    assert run.picks_directory is not None
    expected = evaluate({run.name: picks}, {run.name: read_labels(run.picks_directory)})
    arguments = [str(labelled_runs), "--weights", str(tmp_path / "weights"), "--first", "1", "--change", "gold beads"]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0
    assert score_table({"gold beads": expected}) in told.output
