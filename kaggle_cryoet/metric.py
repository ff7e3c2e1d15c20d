"""The competition's score: F-beta with beta = 4 for each particle type, and their weighted mean.

Source: Kaggle, "CZII - CryoET Object Identification", evaluation page and the metric's published code. What follows
from that code and may surprise: a second prediction near a particle is a false positive; one prediction near two
particles hits both, so that the number of false positives can be negative and precision above 1.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.labels import read_labels
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picks import LEAST_TOLD, Picks, concatenate
from kaggle_cryoet.runs import find_picks
from kaggle_cryoet.submission import read_submission

logger = logging.getLogger(__name__)

OF_TYPES_PRESENT = "of the types that are there"
"""Says which of two scores one is."""
BETA = 4.0
"""Weight of recall against precision."""

HIT_FRACTION_OF_RADIUS = 0.5
"""Largest distance of a hit from the particle's centre, as a fraction of the particle's radius."""
MOST_TIMES = 5.0
"""Where nothing is hit and positions of the one reach more than so many times further than of the other, it is said."""


@dataclass(frozen=True, kw_only=True)
class ParticleScore:
    """Counts over all experiments, and what follows from them, of one particle type."""

    predicted: int
    """Number of predictions."""
    true: int
    """Number of particles."""
    hit: int
    """Number of particles with a prediction near enough."""
    miss: int
    """Number of the others."""
    fp: int
    """Predictions less hits; negative if predictions hit several particles each."""
    precision: float
    """Hits among predictions; 0 without predictions."""
    recall: float
    """Hits among particles; 0 without particles."""
    fbeta: float
    """Harmonic mean of both with recall weighted beta times; 0 without hits."""
    weight: float
    """Weight in the score."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The final score and those of each particle type."""

    score: float
    """Weighted mean of F-beta over the particle types."""
    particles: dict[str, ParticleScore]
    """By name, in the order of `PARTICLES`."""

    @property
    def of_types_present(self) -> float | None:
        """The score of the particle types that are in the truth, if some that have a weight are not; else None."""
        weighted = [row for row in self.particles.values() if row.weight]
        there = [row for row in weighted if row.true]
        if not there or len(there) == len(weighted):
            return None
        return sum(row.weight * row.fbeta for row in there) / sum(row.weight for row in there)

    def to_json_dict(self) -> dict[str, Any]:
        """`{"score": ..., "particles": {name: {"predicted": ..., ..., "weight": ...}}}`."""
        return asdict(self)

    def format_table(self) -> str:
        """Aligned lines: one for each particle type, and the final score."""
        lines = [
            f"{'particle':<20}{'P':>7}{'T':>7}{'Hit':>7}{'Miss':>7}{'FP':>7}"
            f"{'Precision':>11}{'Recall':>9}{f'F-beta{BETA:g}':>10}{'Weight':>8}"
        ]
        lines += [
            f"{name:<20}{row.predicted:>7}{row.true:>7}{row.hit:>7}{row.miss:>7}{row.fp:>7}"
            f"{row.precision:>11.4f}{row.recall:>9.4f}{row.fbeta:>10.4f}{row.weight:>8g}"
            for name, row in self.particles.items()
        ]
        if self.of_types_present is not None:
            lines.append(f"{OF_TYPES_PRESENT} {self.of_types_present:.6f}")
        return "\n".join([*lines, f"score {self.score:.6f}"])


def evaluate(predicted: Mapping[str, Picks], truth: Mapping[str, Picks]) -> Score:
    """Score of predictions by experiment; those of experiments without truth are dropped with a note.

    What is in experiments without a prediction counts as missed, with a note as well.

    Raises
    ------
    InputError
        If the truth holds no experiment.
    """
    if not truth:
        raise InputError("the truth holds no experiment; expected at least one")
    dropped = sum(len(picks) for run, picks in predicted.items() if run not in truth)
    if dropped:
        logger.warning("%d predictions of experiments that are not scored are dropped", dropped)
    warn_of_unpredicted(predicted, truth)
    score = counted(predicted, truth)
    if not any(row.hit for row in score.particles.values()):
        warn_of_another_unit(predicted, truth)
    return score


def counted(predicted: Mapping[str, Picks], truth: Mapping[str, Picks]) -> Score:
    """What `evaluate` returns, without its notes."""
    particles = {}
    for label, particle in enumerate(PARTICLES):
        n_predicted = n_true = n_hit = 0
        for run, reference in truth.items():
            reference_position = reference.position_zyx_angstrom[reference.label == label]
            found = predicted.get(run)
            position = np.empty((0, 3)) if found is None else found.position_zyx_angstrom[found.label == label]
            n_predicted += len(position)
            n_true += len(reference_position)
            n_hit += _count_hits(position, reference_position, HIT_FRACTION_OF_RADIUS * particle.radius_angstrom)
        particles[particle.name] = _particle_score(n_predicted, n_true, n_hit, particle.weight)
    total = sum(row.weight * row.fbeta for row in particles.values())
    return Score(score=total / sum(row.weight for row in particles.values()), particles=particles)


def warn_of_unpredicted(predicted: Mapping[str, Picks], truth: Mapping[str, Picks]) -> None:
    """Say so if there are predictions, but none at all for some experiments with particles."""
    labelled = [run for run, picks in truth.items() if len(picks)]
    absent = [run for run in labelled if run not in predicted]
    if predicted and absent:
        logger.warning(
            "of %d of %d experiments with particles, as %s, nothing is predicted; what is in them counts as missed",
            len(absent),
            len(labelled),
            absent[0],
        )


def warn_of_another_unit(predicted: Mapping[str, Picks], truth: Mapping[str, Picks]) -> None:
    """Say so if predictions reach much less far than what is there, or much further."""
    both = [
        concatenate([picks[run] for run in truth if run in picks]).position_zyx_angstrom for picks in (predicted, truth)
    ]
    if min(map(len, both)) < LEAST_TOLD:
        return
    found, there = (float(position.max()) for position in both)
    if not 1 / MOST_TIMES < found / max(there, 1e-9) < MOST_TIMES:
        logger.warning(
            "nothing is hit; predictions reach to %.0f Å and what is there to %.0f Å: is either in voxels?",
            found,
            there,
        )


def read_truth(path: str | Path) -> dict[str, Picks]:
    """True picks by experiment, from a csv or from a directory in which `find_picks` finds them.

    Raises
    ------
    InputError
        If there are none, or they are faulty.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist; expected a csv or a directory with picks")
    if path.is_file():
        truth = read_submission(path)
        if not truth:
            raise InputError(f"{path}: holds no rows; expected the picks of one experiment or more")
        return truth
    return {run: read_labels(directory) for run, directory in find_picks(path).items()}


def _count_hits(position: NDArray[np.float64], reference_position: NDArray[np.float64], distance: float) -> int:
    """Number of `(n, 3)` references with one of `(m, 3)` positions at the distance or nearer."""
    from scipy.spatial import KDTree

    if not (len(position) and len(reference_position)):
        return 0
    neighbours = KDTree(position).query_ball_point(reference_position, distance, return_length=True)
    return int(np.count_nonzero(neighbours))


def _particle_score(predicted: int, true: int, hit: int, weight: float) -> ParticleScore:
    precision = hit / predicted if predicted else 0.0
    recall = hit / true if true else 0.0
    denominator = BETA**2 * precision + recall
    return ParticleScore(
        predicted=predicted,
        true=true,
        hit=hit,
        miss=true - hit,
        fp=predicted - hit,
        precision=precision,
        recall=recall,
        fbeta=(1 + BETA**2) * precision * recall / denominator if denominator else 0.0,
        weight=weight,
    )
