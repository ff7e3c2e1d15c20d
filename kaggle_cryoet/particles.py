"""The six particle types of the CZII competition: name, radius, weight in the score, and how many there are.

Source: Kaggle, "CZII - CryoET Object Identification", evaluation page, and the picks of its seven training tomograms.
The order of `PARTICLES` is the order of classes everywhere: in score volumes, in labels of `Picks`, in model folders.
"""

from dataclasses import dataclass

from kaggle_cryoet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Particle:
    """One type of protein complex."""

    name: str
    """Name in picks files and in the submission."""
    radius_angstrom: float
    """Radius in the competition's table; a pick within half of it is a hit."""
    weight: float
    """Weight in the competition's score; 0 is not scored."""
    mean_count: float
    """Mean number of picks in a tomogram of `CZII_SHAPE_ZYX`, over the competition's seven training tomograms."""
    other_names: tuple[str, ...]
    """What the CryoET Data Portal and copick projects call it, and its identifiers there, of Gene Ontology or UniProt;
    in lower case, with hyphens."""


PARTICLES: tuple[Particle, ...] = (
    Particle(
        name="apo-ferritin",
        radius_angstrom=60.0,
        weight=1.0,
        mean_count=375 / 7,
        other_names=("apoferritin", "ferritin-complex", "go:0070288"),
    ),
    Particle(
        name="beta-amylase",
        radius_angstrom=65.0,
        weight=0.0,
        mean_count=87 / 7,
        other_names=("uniprotkb:p10537",),
    ),
    Particle(
        name="beta-galactosidase",
        radius_angstrom=90.0,
        weight=2.0,
        mean_count=112 / 7,
        other_names=("uniprotkb:p00722",),
    ),
    Particle(
        name="ribosome",
        radius_angstrom=150.0,
        weight=1.0,
        mean_count=331 / 7,
        other_names=("cytosolic-ribosome", "go:0022626"),
    ),
    Particle(
        name="thyroglobulin",
        radius_angstrom=130.0,
        weight=2.0,
        mean_count=251 / 7,
        other_names=("uniprotkb:p01267",),
    ),
    Particle(
        name="virus-like-particle",
        radius_angstrom=135.0,
        weight=1.0,
        mean_count=113 / 7,
        other_names=("virus-like-capsid", "pp7-vlp", "pseudomonas-phage-pp7-vlp", "go:0170047", "uniprotkb:p03630"),
    ),
)

PARTICLE_NAMES: tuple[str, ...] = tuple(particle.name for particle in PARTICLES)


def label_of(name: str) -> int:
    """Class index of a particle name.

    Raises
    ------
    InputError
        If no particle has that name.
    """
    try:
        return PARTICLE_NAMES.index(name)
    except ValueError:
        raise InputError(f"unknown particle {name!r}; expected one of {', '.join(PARTICLE_NAMES)}") from None


def label_called(name: str) -> int | None:
    """Class index of the particle of a name, or of another name or identifier that it has; None if there is none.

    Case does not matter, nor whether words are parted by spaces, underscores or hyphens.
    """
    name = name.lower().replace("_", "-").replace(" ", "-")
    called = (label for label, one in enumerate(PARTICLES) if name in (one.name, *one.other_names))
    return next(called, None)
