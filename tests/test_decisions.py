"""What decides about candidates of types that nobody may have looked for stays what it was."""

from dataclasses import dataclass

import numpy as np
import pytest

from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLE_NAMES, label_of
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.calibration import fit_calibration
from kaggle_cryoet.training.decisions import Decisions, absent_types, fit_decisions
from kaggle_cryoet.training.thresholds import fit_thresholds

KNOWN = Decisions(
    thresholds=(0.11, 0.12, 0.13, 0.14, 0.15, 0.16),
    calibration=Calibration(slope=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6), offset=(-1.1, -1.2, -1.3, -1.4, -1.5, -1.6)),
)
RIBOSOME = label_of("ribosome")


@dataclass(frozen=True)
class YoloLike:
    """A model as `train yolo` leaves it."""

    thresholds: tuple[float, ...]
    calibration: Calibration | None


@pytest.fixture
def found() -> dict[str, Picks]:
    rng = np.random.default_rng(0)
    position = np.arange(300)[:, None] * np.array([500.0, 0.0, 0.0])
    return {"a": Picks(position_zyx_angstrom=position, label=np.arange(300) % 6, score=rng.uniform(0.05, 1, 300))}


def hits(picks: Picks, labels: tuple[int, ...]) -> dict[str, Picks]:
    """Of some types the better half of what was found."""
    true = np.isin(picks.label, labels) & (picks.score > 0.5)
    return {"a": Picks(position_zyx_angstrom=picks.position_zyx_angstrom[true], label=picks.label[true])}


def test_types_without_a_particle_keep_what_is_known_and_others_get_what_is_fitted(found: dict[str, Picks]) -> None:
    truth = hits(found["a"], (RIBOSOME,))
    fitted = fit_decisions(found, truth, known=KNOWN, least_score=0.05)
    pairs, known = fitted.calibration.to_json_dict(), KNOWN.calibration.to_json_dict()
    for label, name in enumerate(PARTICLE_NAMES):
        if label == RIBOSOME:
            assert fitted.thresholds[label] == fit_thresholds(found, truth, least_score=0.05)[label]
            assert pairs[name] == fit_calibration(found, truth).to_json_dict()[name] != known[name]
        else:
            assert (fitted.thresholds[label], pairs[name]) == (KNOWN.thresholds[label], known[name])


def test_of_what_was_never_calibrated_scores_are_taken_for_probabilities(found: dict[str, Picks]) -> None:
    known = YoloLike(thresholds=KNOWN.thresholds, calibration=None)
    fitted = fit_decisions(found, hits(found["a"], (RIBOSOME,)), known=known)
    pairs = fitted.calibration.to_json_dict()
    assert [name for name, pair in pairs.items() if pair == [1.0, 0.0]] == [
        name for name in PARTICLE_NAMES if name != "ribosome"
    ]


def test_where_nothing_is_known_or_all_types_are_there_everything_is_fitted(found: dict[str, Picks]) -> None:
    for truth, known in ((hits(found["a"], (RIBOSOME,)), None), (hits(found["a"], tuple(range(6))), KNOWN)):
        fitted = fit_decisions(found, truth, known=known)
        assert fitted.thresholds == fit_thresholds(found, truth)
        assert fitted.calibration == fit_calibration(found, truth)


def test_a_type_is_absent_if_no_run_has_it(found: dict[str, Picks]) -> None:
    truth = [hits(found["a"], labels)["a"] for labels in ((0, 2), (2, 5), ())]
    assert absent_types(truth) == [PARTICLE_NAMES[label] for label in (1, 3, 4)]
