"""The distribution of each nuisance of a simulated tomogram, from which it is drawn once per tomogram.

`TRAINING` covers what the public slices and picks of the competition's tomograms show, and more to either side; `WIDE`
goes further; `SHIFTED` lies outside both in what makes it harder, and is meant for testing only.
"""

import zlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kaggle_cryoet.simulation.nuisances import Nuisances

STRATA = 10
"""So many consecutive tomograms of a set cover each range evenly."""
HARDER = {
    "ice_thickness_angstrom": 1,
    "lysate_per_cubic_micrometre": 1,
    "distractors_per_cubic_micrometre": 1,
    "aggregates_per_cubic_micrometre": 1,
    "vesicles_per_cubic_micrometre": 1,
    "contaminations_per_square_micrometre": 1,
    "defocus_angstrom": 1,
    "low_frequency_restoration": -1,
    "slow_withheld": 1,
    "envelope_angstrom_squared": 1,
    "damping_angstrom_squared_per_degree": 1,
    "alignment_error_angstrom": 1,
    "tilt_range_degree": -1,
    "dropped_tilts": 1,
    "across_cutoff_per_voxel": -1,
    "signal_per_noise": -1,
    "raw_noise": 1,
    "wedge_filled": -1,
    "softness_per_voxel": -1,
    "cutoff_per_voxel": -1,
    "fixed_pattern": 1,
    "streaks": 1,
}
"""Nuisances that make particles harder to find, and whether high values (1) or low ones (-1) do."""


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution, over the logarithm if `log`."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """The value that a share between 0 and 1 of all values lies below."""
        if self.log:
            return float(np.exp(np.log(self.low) + share * np.log(self.high / self.low)))
        return float(self.low + share * (self.high - self.low))


@dataclass(frozen=True)
class Chance:
    """True with a probability."""

    probability: float

    def at(self, share: float) -> bool:
        """True for shares between 0 and 1 below the probability."""
        return bool(share < self.probability)


@dataclass(frozen=True)
class Sometimes:
    """A uniform distribution with a probability, otherwise 0."""

    probability: float
    low: float
    high: float

    def at(self, share: float) -> float:
        """The value of a share between 0 and 1: 0 for shares from the probability on."""
        if share >= self.probability:
            return 0.0
        return float(self.low + share / self.probability * (self.high - self.low))


@dataclass(frozen=True, kw_only=True)
class NuisanceRanges:
    """The distribution of each field of `Nuisances`; the fields mean the same."""

    ice_thickness_angstrom: Uniform = Uniform(700, 1500)
    ice_slope_y: Uniform = Uniform(-0.1, 0.1)
    ice_slope_x: Uniform = Uniform(-0.1, 0.1)
    ice_taper_y: Uniform = Uniform(-0.3, 0.3)
    ice_taper_x: Uniform = Uniform(-0.3, 0.3)
    ice_offset: Uniform = Uniform(-0.18, 0.02)
    interface_fraction: Uniform = Uniform(0.0, 0.4)
    particle_density: Uniform = Uniform(0.6, 1.6)
    clustering: Uniform = Uniform(0.3, 1.4)
    lysate_per_cubic_micrometre: Uniform = Uniform(3e4, 1.3e6, log=True)
    lysate_clustered: Uniform = Uniform(0.1, 0.8)
    lysate_at_interface: Uniform = Uniform(0.0, 0.3)
    companions_per_ribosome: Uniform = Uniform(0, 28)
    distractors_per_cubic_micrometre: Uniform = Uniform(60, 800, log=True)
    aggregates_per_cubic_micrometre: Uniform = Uniform(20, 500, log=True)
    vesicles_per_cubic_micrometre: Uniform = Uniform(5, 120, log=True)
    filaments_per_cubic_micrometre: Uniform = Uniform(0.5, 30, log=True)
    gold_per_cubic_micrometre: Uniform = Uniform(0.2, 6, log=True)
    contaminations_per_square_micrometre: Uniform = Uniform(0.1, 6, log=True)
    carbon_edge: Chance = Chance(0.4)
    cargo_fraction: Uniform = Uniform(0.0, 0.8)
    defocus_angstrom: Uniform = Uniform(12000, 49000)
    amplitude_contrast: Uniform = Uniform(0.06, 0.14)
    phase_shift_degree: Sometimes = Sometimes(0.0, 0.0, 0.0)
    phase_flipped: Chance = Chance(0.7)
    low_frequency_restoration: Uniform = Uniform(0.0, 0.85)
    slow_withheld: Uniform = Uniform(0.0, 0.7)
    envelope_angstrom_squared: Uniform = Uniform(0, 400)
    damping_angstrom_squared_per_degree: Uniform = Uniform(0, 25)
    alignment_error_angstrom: Uniform = Uniform(0, 6)
    tilt_range_degree: Uniform = Uniform(41, 50)
    tilt_offset_degree: Uniform = Uniform(-3, 3)
    tilt_step_degree: Uniform = Uniform(2.8, 3.2)
    ramp_limit_per_voxel: Uniform = Uniform(0.1, 0.7, log=True)
    across_cutoff_per_voxel: Uniform = Uniform(0.26, 0.45)
    tilt_weight_degree: Uniform = Uniform(24, 60)
    dropped_tilts: Uniform = Uniform(0, 0.1)
    signal_per_noise: Uniform = Uniform(1.4, 6.0, log=True)
    raw_noise: Uniform = Uniform(1.5, 4.0)
    wedge_filled: Uniform = Uniform(0.3, 0.9)
    leakage: Uniform = Uniform(0.04, 0.14)
    softness_per_voxel: Uniform = Uniform(0.17, 0.6, log=True)
    softness_exponent: Uniform = Uniform(0.8, 2.0)
    cutoff_per_voxel: Uniform = Uniform(0.36, 0.6)
    cutoff_exponent: Uniform = Uniform(5, 10)
    background_loss: Uniform = Uniform(0.0, 0.6)
    bright_loss: Uniform = Uniform(0.0, 0.2)
    bright_suppression: Uniform = Uniform(0.4, 1.0)
    dark_exponent: Uniform = Uniform(0.5, 0.9)
    fixed_pattern: Uniform = Uniform(0.0, 3.0)
    streaks: Uniform = Uniform(0.0, 0.8)
    uncovered_border: Chance = Chance(0.4)
    background_spread: Uniform = Uniform(3.5e-6, 5.2e-6)

    def draw(self, rng: np.random.Generator) -> Nuisances:
        """One tomogram's nuisances, independent of any other's."""
        seed = int(rng.integers(2**63))
        return self._at(np.array([_chance_of(item.name, seed).random() for item in fields(self)]))

    def draw_of_set(self, seed: int, number: int, *, difficulty: float = 0.0) -> Nuisances:
        """Nuisances of tomogram `number` of a set, from its arguments alone.

        Any `STRATA` tomograms from a multiple of `STRATA` on are a Latin hypercube: of each nuisance they hold one
        value from each of `STRATA` equally likely parts of its range, so that a small set covers all ranges evenly.
        Source: McKay, Beckman and Conover, Technometrics 21 (1979).

        Parameters
        ----------
        seed, number
            Source of all chance.
        difficulty
            From -1 to 1. The ranges stay; within them, the share of draws of a nuisance in `HARDER` that are easier
            than a share x of its range is 1 - (1 - x)^(1 / 4^difficulty), which is x at 0.
        """
        share = np.array([_stratified(seed, number, item.name) for item in fields(self)])
        exponent = 4**difficulty
        for index, item in enumerate(fields(self)):
            if HARDER.get(item.name) == 1:
                share[index] = 1 - (1 - share[index]) ** exponent
            elif HARDER.get(item.name) == -1:
                share[index] **= exponent
        return self._at(share)

    def _at(self, share: NDArray[np.float64]) -> Nuisances:
        """The nuisances at `(n,)` shares, field by field in their order."""
        values = zip(fields(self), share.tolist(), strict=True)
        return Nuisances(**{item.name: getattr(self, item.name).at(value) for item, value in values})


def _stratified(seed: int, number: int, name: str) -> float:
    """Share of the range of the nuisance of a name that lies below the value of tomogram `number` of a set."""
    block, place = divmod(number, STRATA)
    rng = _chance_of(name, seed, block)
    return float((rng.permutation(STRATA)[place] + rng.random(STRATA)[place]) / STRATA)


def _chance_of(name: str, *seed: int) -> np.random.Generator:
    """Chance of a nuisance's own, so that another nuisance leaves what is drawn of the others as it is."""
    return np.random.default_rng((*seed, zlib.crc32(name.encode())))


TRAINING = NuisanceRanges()

WIDE = NuisanceRanges(
    ice_thickness_angstrom=Uniform(500, 1500),
    particle_density=Uniform(0.4, 1.6),
    lysate_per_cubic_micrometre=Uniform(1e4, 1.8e6, log=True),
    distractors_per_cubic_micrometre=Uniform(20, 800, log=True),
    cargo_fraction=Uniform(0.0, 1.0),
    defocus_angstrom=Uniform(8000, 50000),
    phase_shift_degree=Sometimes(0.3, 45, 120),
    low_frequency_restoration=Uniform(0.0, 1.0),
    envelope_angstrom_squared=Uniform(0, 600),
    alignment_error_angstrom=Uniform(0, 9),
    ramp_limit_per_voxel=Uniform(0.05, 1.0, log=True),
    across_cutoff_per_voxel=Uniform(0.2, 0.5),
    signal_per_noise=Uniform(1.4, 9.0, log=True),
    leakage=Uniform(0.02, 0.2),
    softness_per_voxel=Uniform(0.17, 0.8),
    softness_exponent=Uniform(0.8, 2.5),
    cutoff_per_voxel=Uniform(0.28, 0.7),
    cutoff_exponent=Uniform(3, 12),
    background_loss=Uniform(0.0, 0.8),
    bright_loss=Uniform(0.0, 0.3),
    bright_suppression=Uniform(0.0, 1.0),
    dark_exponent=Uniform(0.4, 1.0),
    fixed_pattern=Uniform(0.0, 3.5),
    streaks=Uniform(0.0, 1.2),
)
"""Further to all sides than real slices give reason to, for networks that are to generalise. Where `SHIFTED` begins, it
ends."""

AS_FIXED = {
    "ice_taper_y": Uniform(0.0, 0.0),
    "ice_taper_x": Uniform(0.0, 0.0),
    "lysate_at_interface": Uniform(0.0, 0.0),
    "cargo_fraction": Uniform(0.15, 0.9),
    "ramp_limit_per_voxel": Uniform(0.08, 0.5, log=True),
    "slow_withheld": Uniform(0.0, 0.0),
    "softness_exponent": Uniform(1.0, 2.2),
    "background_loss": Uniform(0.0, 0.0),
    "fixed_pattern": Uniform(0.0, 1.2),
    "streaks": Uniform(0.0, 0.0),
}
"""What `SHIFTED` draws as training did when it was fixed, whatever became of training since."""

SHIFTED = NuisanceRanges(
    ice_thickness_angstrom=Uniform(1500, 1800),
    particle_density=Uniform(1.6, 2.2),
    lysate_per_cubic_micrometre=Uniform(1.8e6, 2.4e6, log=True),
    distractors_per_cubic_micrometre=Uniform(800, 1000, log=True),
    defocus_angstrom=Uniform(50000, 65000),
    signal_per_noise=Uniform(0.9, 1.4, log=True),
    softness_per_voxel=Uniform(0.13, 0.17),
    cutoff_per_voxel=Uniform(0.25, 0.28),
    **AS_FIXED,  # type: ignore[arg-type]
)

NUISANCE_RANGES = {"training": TRAINING, "wide": WIDE, "shifted": SHIFTED}
