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


@pytest.mark.parametrize(
    ("every", "done", "left", "expected"),
    [
        (100, 2, 80.4, 5),
        (100, 2, 80.6, 6),  # from 1.15 (4 x 10 + 30) on: the last of four more is looked at
        (100, 3, 39.9, 3),
        (100, 3, 40.1, 4),  # as it is, if no slower
        (4, 2, 103.4, 4),
        (4, 2, 103.6, 5),  # from 1.15 (3 x 10 + 2 x 30) on: after 4, and after the last
        (4, 2, 138.1, 8),  # from 1.15 (6 x 10 + 2 x 30) on: after 4 and 8, which is the last
        (4, 2, 183.9, 8),
        (4, 2, 184.1, 9),  # from 1.15 (7 x 10 + 3 x 30) on
    ],
)
def test_looks_at_the_score_take_their_time(every: int, done: int, left: float, expected: int) -> None:
    times = {"epoch_seconds": 10.0, "look_seconds": 30.0}
    assert fitting_epochs(done, 50, left_seconds=left, look_every=every, **times) == expected
