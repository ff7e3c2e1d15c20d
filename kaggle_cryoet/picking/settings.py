"""How tomograms are picked: the branch, and the settings of each stage."""

from dataclasses import dataclass, field

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import UNetModel
from kaggle_cryoet.picking.adapt import AdaptSettings
from kaggle_cryoet.picking.associate import AssociateSettings
from kaggle_cryoet.picking.branches import BRANCHES
from kaggle_cryoet.picking.candidates import LocaliseSettings
from kaggle_cryoet.picking.detect import DetectSettings
from kaggle_cryoet.picking.fuse import FuseSettings
from kaggle_cryoet.picking.segment import SegmentSettings

OWN_STATISTICS = ("auto", "always", "never")
"""Auto: where the U-Net is surer of what it finds so."""


@dataclass(frozen=True, kw_only=True)
class PickSettings:
    """How tomograms are picked."""

    branch: str = "unet"
    """Which networks pick: one of `BRANCHES`."""
    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    """What a user knows of the tomograms."""
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    """How the U-Net is applied."""
    localise: LocaliseSettings | None = None
    """How scores become points; as the model says if None."""
    detect: DetectSettings = field(default_factory=DetectSettings)
    """How YOLO is applied."""
    associate: AssociateSettings = field(default_factory=AssociateSettings)
    """How boxes in slices become points."""
    fuse: FuseSettings = field(default_factory=FuseSettings)
    """How the points of both become one list."""
    own_statistics: str = "auto"
    """Whether the U-Net goes by the statistics of a tomogram, see the module of that name: one of `OWN_STATISTICS`."""
    strict: bool = False
    """Whether picks are what is above the thresholds of the model, and not what is expected to score best."""

    def __post_init__(self) -> None:
        """Check the branch, and what is said of statistics."""
        if self.branch not in BRANCHES:
            raise InputError(f"unknown branch {self.branch!r}; expected {' or '.join(BRANCHES)}")
        if self.own_statistics not in OWN_STATISTICS:
            raise InputError(f"own_statistics is {' or '.join(OWN_STATISTICS)}, got {self.own_statistics!r}")

    def localise_for(self, model: UNetModel) -> LocaliseSettings:
        """How the scores of a model become points."""
        return self.localise or LocaliseSettings(method=model.settings.localise)

    @property
    def suppression_radius(self) -> float:
        """Points of one type closer than so many radii to a better one are dropped."""
        return (self.localise or LocaliseSettings()).suppression_radius
