"""Which density map each shipped bead model comes from, and what it weighs.

The maps are the 10 Å templates of polnet (A. Martinez-Sanchez and others, github.com/anmartinezs/polnet, Apache-2.0);
beta-amylase was computed from the CA atoms of its PDB entry (wwPDB, CC0). Their scales differ tenfold, so that masses
are given here: those of the whole particle in solution, or, where the map holds an asymmetric unit, of what it shows.
"""

from dataclasses import dataclass
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.simulation.bead_fit import fit_bead_model_from_map
from kaggle_cryoet.simulation.beads import BeadModel
from kaggle_cryoet.simulation.density_map import read_map


@dataclass(frozen=True, kw_only=True)
class BeadSource:
    """One density map and the particle in it."""

    name: str
    """Name of the bead model."""
    pdb: str
    """PDB entry, in lower case: the map is `<pdb>.mrc`."""
    what: str
    """What the map shows, for the header of the table."""
    mass_kilodalton: float
    """Molecular mass of one body."""
    bodies: int = 1
    """2 where the map holds two copies side by side, of which one is fitted."""
    origin: str = "density from polnet (A. Martinez-Sanchez et al., Apache-2.0)"
    """Makers and licence of the map."""

    @property
    def source(self) -> str:
        """The line that goes into the table."""
        return f"PDB {self.pdb.upper()}, {self.what}; {self.origin}"


BEAD_SOURCES: tuple[BeadSource, ...] = (
    BeadSource(name="apo-ferritin", pdb="6pxm", what="apo-ferritin 24-mer", mass_kilodalton=480.0),
    BeadSource(
        name="beta-amylase",
        pdb="1fa2",
        what="sweet potato beta-amylase tetramer",
        mass_kilodalton=224.0,
        origin="density from the CA atoms of the entry (wwPDB, CC0)",
    ),
    BeadSource(name="beta-galactosidase", pdb="1f4a", what="E. coli tetramer", mass_kilodalton=465.0),
    BeadSource(name="ribosome", pdb="6qzp", what="human 80S, protein and RNA", mass_kilodalton=4300.0),
    BeadSource(name="thyroglobulin", pdb="7n4y", what="bovine dimer, glycans counted", mass_kilodalton=670.0),
    BeadSource(
        name="virus-like-particle", pdb="8tux", what="PP7 capsid, the hollow protein shell", mass_kilodalton=2500.0
    ),
    BeadSource(name="ribosome-70s", pdb="4v4r", what="T. thermophilus 70S, protein and RNA", mass_kilodalton=2500.0),
    BeadSource(name="mitoribosome", pdb="5mrc", what="yeast mitochondrial ribosome", mass_kilodalton=3000.0),
    BeadSource(
        name="proteasome-26s-half",
        pdb="4cr2",
        what="yeast 26S, one cap and half of the core",
        mass_kilodalton=1220.0,
    ),
    BeadSource(name="tric", pdb="4v94", what="yeast TRiC, one of two in the map", mass_kilodalton=950.0, bodies=2),
    BeadSource(name="fatty-acid-synthase", pdb="2uv8", what="yeast dodecamer", mass_kilodalton=2600.0),
    BeadSource(name="proteasome-20s", pdb="3j9i", what="T. acidophilum 28-mer", mass_kilodalton=700.0),
    BeadSource(name="proteasome-20s-capped", pdb="6utj", what="20S with one PA26 cap", mass_kilodalton=885.0),
    BeadSource(name="rubisco-half", pdb="1bxn", what="4 large and 4 small of 8 each", mass_kilodalton=275.0),
    BeadSource(name="clpb-trimer", pdb="1qvr", what="T. thermophilus trimer", mass_kilodalton=290.0),
    BeadSource(name="p97-trimer", pdb="3cf3", what="3 of 6 protomers", mass_kilodalton=265.0),
    BeadSource(name="hsp90", pdb="2cg9", what="yeast Hsp90 dimer with Sba1", mass_kilodalton=190.0),
    BeadSource(name="cand1-cul1", pdb="1u6g", what="CAND1-CUL1-ROC1", mass_kilodalton=235.0),
    BeadSource(name="hsp110-hsc70", pdb="3d2f", what="two Hsp110-Hsp70 complexes", mass_kilodalton=235.0),
    BeadSource(name="get3", pdb="3h84", what="yeast Get3 dimer", mass_kilodalton=78.0),
    BeadSource(name="ssb1-atpase", pdb="3gl1", what="two ATPase domains of yeast Ssb1", mass_kilodalton=86.0),
    BeadSource(name="hsp70-atpase", pdb="1s3x", what="ATPase domain of human Hsp70", mass_kilodalton=43.0),
    BeadSource(name="cinnamoyl-esterase", pdb="3qm1", what="L. johnsonii monomer", mass_kilodalton=30.0),
)


def fit_all(maps_directory: Path, output_directory: Path) -> tuple[BeadModel, ...]:
    """Fit every map of `BEAD_SOURCES` and write one table each.

    Parameters
    ----------
    maps_directory : Path
        Holds `<pdb>.mrc` for every source.
    output_directory : Path
        Receives `<name>.csv`; made if it is not there.

    Raises
    ------
    InputError
        If a map is missing or broken, before any is fitted.
    """
    missing = [source.pdb for source in BEAD_SOURCES if not (maps_directory / f"{source.pdb}.mrc").is_file()]
    if missing:
        raise InputError(f"{maps_directory}: expected <pdb>.mrc for all bead models; missing {', '.join(missing)}")
    for source in BEAD_SOURCES:
        read_map(maps_directory / f"{source.pdb}.mrc")
    return tuple(
        fit_bead_model_from_map(
            source.name,
            maps_directory / f"{source.pdb}.mrc",
            output_directory,
            mass_kilodalton=source.mass_kilodalton,
            source=source.source,
            bodies=source.bodies,
        )
        for source in BEAD_SOURCES
    )
