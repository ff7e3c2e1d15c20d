"""Epochs are planned so that the last one ends in time."""

import pytest

from kaggle_cryoet.training.time_limit import fitting_epochs


@pytest.mark.parametrize(
    ("left", "expected"),
    [(100.0, 10), (57.6, 7), (57.4, 6), (11.6, 3), (11.4, 3), (10.0, 3), (9.9, 2), (-5.0, 2)],
)
def test_epochs_fit_even_if_they_become_slower(left: float, expected: int) -> None:
    assert fitting_epochs(2, 50, left_seconds=left, epoch_seconds=10.0) == expected


def test_no_more_than_planned() -> None:
    assert fitting_epochs(2, 4, left_seconds=1000.0, epoch_seconds=10.0) == 4
