"""The six particle types of the CZII competition: name, radius, weight in the score, and how many there are.

Source: Kaggle, "CZII - CryoET Object Identification", evaluation page, and the picks of its seven training tomograms.
The order of `PARTICLES` is the order of classes everywhere: in score volumes, in labels of `Picks`, in model folders.
"""

from collections.abc import Mapping
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


PARTICLES: tuple[Particle, ...] = (
    Particle(name="apo-ferritin", radius_angstrom=60.0, weight=1.0, mean_count=375 / 7),
    Particle(name="beta-amylase", radius_angstrom=65.0, weight=0.0, mean_count=87 / 7),
    Particle(name="beta-galactosidase", radius_angstrom=90.0, weight=2.0, mean_count=112 / 7),
    Particle(name="ribosome", radius_angstrom=150.0, weight=1.0, mean_count=331 / 7),
    Particle(name="thyroglobulin", radius_angstrom=130.0, weight=2.0, mean_count=251 / 7),
    Particle(name="virus-like-particle", radius_angstrom=135.0, weight=1.0, mean_count=113 / 7),
)

PARTICLE_NAMES: tuple[str, ...] = tuple(particle.name for particle in PARTICLES)

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "apo-ferritin": ("apoferritin", "ferritin-complex", "go:0070288"),
    "beta-amylase": ("uniprotkb:p10537",),
    "beta-galactosidase": ("uniprotkb:p00722",),
    "ribosome": ("cytosolic-ribosome", "go:0022626"),
    "thyroglobulin": ("uniprotkb:p01267",),
    "virus-like-particle": (
        "virus-like-capsid",
        "pp7-vlp",
        "pseudomonas-phage-pp7-vlp",
        "go:0170047",
        "uniprotkb:p03630",
    ),
}
"""What the CryoET Data Portal and copick projects call each particle, and its identifiers there, of Gene Ontology or
UniProt; in lower case, with hyphens."""


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
    return next((label for label, own in enumerate(PARTICLE_NAMES) if name in (own, *OTHER_NAMES[own])), None)
