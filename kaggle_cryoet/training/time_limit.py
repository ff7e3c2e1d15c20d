"""How many epochs of a training fit into a time limit."""

import math

from kaggle_cryoet.errors import InputError

SLOWER = 1.15
"""By so much the epochs that are left may be slower than those so far without one being lost."""


def check_time_limit(seconds: float) -> None:
    """Raise `InputError` unless a time limit is positive and finite."""
    if not 0 < seconds < math.inf:
        raise InputError(f"the time limit must be positive and finite, got {seconds} s")


def fitting_epochs(
    done: int,
    planned: int,
    *,
    left_seconds: float,
    epoch_seconds: float,
    look_seconds: float = 0.0,
    look_every: int = 1,
) -> int:
    """Epochs in all, no more than planned, that fit even if those to come are slower; or one more that fits as it is.

    After every so many epochs, and the last, there is a look at the validation score. So the last epoch is one that was
    planned as such, with the lowest learning rate.
    """

    def seconds(epochs: int) -> float:
        looks = (epochs - 1) // look_every - done // look_every + 1
        return (epochs - done) * epoch_seconds + looks * look_seconds

    more = done
    while more < planned and SLOWER * seconds(more + 1) <= left_seconds:
        more += 1
    return more if more > done or done >= planned else done + int(seconds(done + 1) <= left_seconds)
