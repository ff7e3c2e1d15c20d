"""Which seeds a training takes: those that torch, numpy and ultralytics all take."""

from kaggle_cryoet.errors import InputError


def check_seed(seed: int) -> None:
    """Raise an `InputError` unless a seed has 32 bits and no sign."""
    if not 0 <= seed < 2**32:
        raise InputError(f"a seed is from 0 to 2³² - 1, got {seed}")
