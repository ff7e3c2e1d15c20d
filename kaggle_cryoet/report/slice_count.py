"""Detections in a single slice, counted against the picks of its tomogram."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.particles import PARTICLE_NAMES, PARTICLES
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.report.matching import match
from kaggle_cryoet.report.slice_picture import cut_radius

LEAST_CUT = 0.5
"""A slice shows a particle if it cuts its sphere in a circle of at least so many radii, which is what detectors are
trained to find. What is detected at one that it cuts in a smaller circle is neither hit nor false."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceCount:
    """What becomes of the detections in one slice."""

    found: Picks
    """Detections; scores are confidences."""
    found_is_false: NDArray[np.bool_]
    """`(n,)` whether it is near no particle of its type that the slice cuts, or another one is nearer; False without
    picks."""
    z_angstrom: float
    """Height of the slice in its tomogram."""
    shown: Picks | None
    """Particles that the slice shows; None without picks."""
    shown_is_hit: NDArray[np.bool_] | None
    """`(m,)` whether each of them is detected; None without picks."""

    def format_table(self) -> str:
        """Aligned lines: one for each particle type, and the sums."""
        heads = ["detected"] if self.shown is None else ["detected", "shown", "hit", "missed", "false"]
        numbers = np.array([self._numbers(label) for label in range(len(PARTICLES))])
        lines = [f"{'particle':<20}" + "".join(f"{head:>10}" for head in heads)]
        for name, row in zip((*PARTICLE_NAMES, "all"), (*numbers, numbers.sum(axis=0)), strict=True):
            lines.append(f"{name:<20}" + "".join(f"{number:>10}" for number in row))
        return "\n".join(lines)

    def _numbers(self, label: int) -> list[int]:
        """A row of the table."""
        detected = self.found.label == label
        if self.shown is None or self.shown_is_hit is None:
            return [int(detected.sum())]
        shown = self.shown.label == label
        hit = int((shown & self.shown_is_hit).sum())
        false = int((detected & self.found_is_false).sum())
        return [int(detected.sum()), int(shown.sum()), hit, int(shown.sum()) - hit, false]


def count_detections(found: Picks, truth: Picks | None, *, z_angstrom: float) -> SliceCount:
    """Detections counted against the true particles of a tomogram that the slice at a height cuts.

    A hit is that of the competition's score, within half a radius, but in the plane: a slice does not tell the height.
    """
    nowhere = np.zeros(len(found), dtype=np.bool_)
    if truth is None:
        return SliceCount(found=found, found_is_false=nowhere, z_angstrom=z_angstrom, shown=None, shown_is_hit=None)
    radius = np.array([particle.radius_angstrom for particle in PARTICLES])[truth.label]
    cut = cut_radius(truth, z_angstrom) / radius  # NaN where the slice passes by
    shown, grazed = truth.select(cut >= LEAST_CUT), truth.select(cut < LEAST_CUT)
    matching = match(_flat(found), _flat(shown))
    is_false = ~matching.found_is_hit
    others = np.flatnonzero(is_false)
    is_false[others[match(_flat(found.select(others)), _flat(grazed)).found_is_hit]] = False
    return SliceCount(
        found=found,
        found_is_false=is_false,
        z_angstrom=z_angstrom,
        shown=shown,
        shown_is_hit=matching.truth_is_hit,
    )


def _flat(picks: Picks) -> Picks:
    """Picks at the height 0."""
    return Picks(position_zyx_angstrom=picks.position_zyx_angstrom * [0.0, 1.0, 1.0], label=picks.label)
