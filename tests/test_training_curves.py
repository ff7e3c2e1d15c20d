"""Plots of a training: what is drawn are the values of the log."""

from pathlib import Path

import numpy as np
import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.report.training_curves import draw_training_curves, read_log, save_training_curves

ROWS = [
    {"epoch": 0.0, "score": 0.2, "fbeta_ribosome": 0.4, "dice_ribosome": 0.1},
    {"epoch": 0.0, "loss": 0.9},
    {"epoch": 1.0, "loss": 0.7},
    {"epoch": 2.0, "score": 0.5, "fbeta_ribosome": 0.8, "dice_ribosome": 0.6},
    {"epoch": 2.0, "loss": 0.6},
]


def test_each_panel_shows_its_column_of_the_log_over_the_epochs() -> None:
    figure = draw_training_curves(ROWS)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels)[2:] == list(PARTICLE_NAMES)
    curves = {name: [line.get_xydata().tolist() for line in axes.get_lines()] for name, axes in panels.items()}
    assert curves["loss"] == [[[1, 0.9], [2, 0.7], [3, 0.6]]]
    assert curves["score (an upper bound)"] == [[[1, 0.2], [3, 0.5]]]
    assert curves["ribosome"] == [[[1, 0.4], [3, 0.8]], [[1, 0.1], [3, 0.6]]]
    assert curves["thyroglobulin"] == []


def test_labels_of_small_losses_are_not_cut() -> None:
    figure = draw_training_curves([{"epoch": 0.0, "loss": 0.0588}, {"epoch": 1.0, "loss": 0.0457}])
    figure.draw_without_rendering()
    labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels() if label.get_text()]
    assert min(extent.x0 for extent in labels) >= 0


def test_a_log_is_read_without_its_empty_fields(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss,score,step\n0,,0.25,3\n0,0.5,,3\n")
    assert read_log(tmp_path / "metrics.csv") == [
        {"epoch": 0, "score": 0.25, "step": 3},
        {"epoch": 0, "loss": 0.5, "step": 3},
    ]
    (tmp_path / "metrics.csv").write_text("epoch,loss\n0,abc\n")
    for path in (tmp_path / "metrics.csv", tmp_path / "nowhere.csv"):
        with pytest.raises(InputError, match="not a log of a training"):
            read_log(path)


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    from matplotlib.image import imread

    save_training_curves(ROWS, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    picture = imread(tmp_path / "curves.png")
    assert picture.shape[:2] == (660, 1480)
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 10
