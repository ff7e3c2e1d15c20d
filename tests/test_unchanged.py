"""What was interrupted is gone on with as it began."""

import pytest

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.training.unchanged import check_unchanged

BEFORE = {"runs": ["a", "b"], "crops": {"scale": 0.1, "shape": [8, 8]}, "score": 0.5}


def test_what_reads_as_it_was_written_is_unchanged_whatever_else_was_noted() -> None:
    check_unchanged(BEFORE, {"runs": ("a", "b"), "crops": {"shape": (8, 8), "scale": 0.1}}, what="a training")


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"runs": ["b", "a"]}, "runs"),
        ({"crops": {"scale": 0.2, "shape": [8, 8]}, "runs": ["a"]}, "crops.scale, runs"),
        ({"crops": {"scale": 0.1}}, "crops.shape"),
        ({"seed": 3}, "seed"),
    ],
)
def test_all_that_differs_is_named(now: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as caught:
        check_unchanged(BEFORE, now, what="a training", mend="; begin anew")
    assert str(caught.value) == f"a training is gone on with as it began, but {named} changed; begin anew"
