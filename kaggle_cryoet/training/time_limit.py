"""How many epochs of a training fit into a time limit."""

import math

from kaggle_cryoet.errors import InputError

SLOWER = 1.15
"""By so much the epochs that are left may be slower than those so far without one being lost."""


def check_time_limit(seconds: float) -> None:
    """Raise `InputError` unless a time limit is positive and finite."""
    if not 0 < seconds < math.inf:
        raise InputError(f"the time limit must be positive and finite, got {seconds} s")


def fitting_epochs(done: int, planned: int, *, left_seconds: float, epoch_seconds: float) -> int:
    """Epochs in all, no more than planned, that fit even if those to come are slower; or one more that fits as it is.

    So the last epoch is one that was planned as such, with the lowest learning rate.
    """
    more = max(int(left_seconds / (SLOWER * epoch_seconds)), int(left_seconds >= epoch_seconds))
    return min(done + more, planned)
