"""What can be asked of the simulator: requests that cannot be met are refused before any work."""

from collections.abc import Mapping, Sequence

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.particles import PARTICLE_NAMES
from kaggle_cryoet.picks import Picks, check_inside
from kaggle_cryoet.simulation.beads import BeadModel, load_bead_model
from kaggle_cryoet.simulation.network_denoising import DENOISED_BY_NETWORK, check_denoiser
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.reconstruction import check_types

LEAST_EDGE_VOXELS = 32
"""The largest particles are 27 voxels across."""


def check_request(
    *,
    runs: int,
    shape_zyx: tuple[int, int, int],
    seed: int,
    setting: str,
    difficulty: float,
    counts: Mapping[str, int] | None,
    picks: Sequence[Picks] | None,
    tomogram_types: Sequence[str],
    denoiser: str,
) -> None:
    """Raise InputError if `simulate` would refuse these arguments of it, whatever the structures and the folder."""
    if runs < 1 or seed < 0:
        raise InputError(f"expected one run or more and a seed that is not negative, got {runs} runs and seed {seed}")
    check_shape(shape_zyx)
    if setting not in NUISANCE_RANGES:
        raise InputError(f"unknown setting {setting!r}; expected one of {', '.join(NUISANCE_RANGES)}")
    if not -1 <= difficulty <= 1:
        raise InputError(f"expected a difficulty from -1 to 1, got {difficulty}")
    for name, count in (counts or {}).items():
        if name not in PARTICLE_NAMES:
            raise InputError(f"unknown particle {name!r}; expected one of {', '.join(PARTICLE_NAMES)}")
        if count < 0:
            raise InputError(f"expected a number of {name} that is not negative, got {count}")
    if picks is not None and not len(picks):
        raise InputError("expected the picks of one run or more, got none")
    for number, item in enumerate((picks or ())[:runs]):
        check_inside(item, shape_zyx, CZII_VOXEL_ANGSTROM, f"the picks to simulate, number {number} from 0")
    check_types(tomogram_types)
    check_denoiser(denoiser)
    if denoiser != "filters" and DENOISED_BY_NETWORK not in tomogram_types:
        got = ", ".join(tomogram_types)
        raise InputError(f"a network denoises reconstructions of the type {DENOISED_BY_NETWORK!r}, got {got} alone")


def check_shape(shape_zyx: tuple[int, int, int]) -> None:
    """Raise if a volume is too thin."""
    if min(shape_zyx) < LEAST_EDGE_VOXELS:
        raise InputError(
            f"a tomogram needs edges of {LEAST_EDGE_VOXELS} voxels or more to hold particles, got {shape_zyx}"
        )


def check_structures(bead_models: Mapping[str, BeadModel], shape_zyx: tuple[int, int, int]) -> None:
    """Raise InputError if a structure is of no particle, or larger than both a volume and the package's own."""
    for name, model in bead_models.items():
        if name not in PARTICLE_NAMES:
            raise InputError(f"unknown particle {name!r}; expected one of {', '.join(PARTICLE_NAMES)}")
        shipped = load_bead_model(name)
        usual = 2 * shipped.radius_angstrom / CZII_VOXEL_ANGSTROM
        across = usual * model.gyration_angstrom / shipped.gyration_angstrom
        if across > max(min(shape_zyx), 1.1 * usual):
            raise InputError(f"{name} is {across:.0f} voxels across, more than there are in a volume of {shape_zyx}")
