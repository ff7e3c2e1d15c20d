"""One tomogram in, its picks out, by any branch: networks look at it, then it is decided what is a particle."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.models.folder import weights_digest
from kaggle_cryoet.models.hybrid import HybridModel
from kaggle_cryoet.models.store import UNetModel, YoloModel, load_hybrid, load_unet, load_yolo
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.associate import associate
from kaggle_cryoet.picking.branches import HYBRID_FOLDER, UNET_FOLDER, YOLO_FOLDER, find_models
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE, find_candidates
from kaggle_cryoet.picking.choose import Decides, choose, expected_counts, expected_score
from kaggle_cryoet.picking.detect import Detections, detect, prepare
from kaggle_cryoet.picking.equalise import Shown
from kaggle_cryoet.picking.fuse import Candidates, join, rank, suppress_each_type
from kaggle_cryoet.picking.own_statistics import middle, with_statistics_of
from kaggle_cryoet.picking.pace import Plan, hybrid_plans, unet_plans, yolo_plans
from kaggle_cryoet.picking.segment import ScoreGrid, segment
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks

logger = logging.getLogger(__name__)

LEAST_GAIN = 0.08
"""A tomogram is seen by its own statistics if what they promise gains so much."""
SURENESS = 4
"""Power of the probabilities of what is promised: in strange tomograms only sure candidates are to be trusted."""
MODELS_NOTE = "models"
"""Where the provenance of a hybrid says what models it is for: digests of their weights, by folder."""


class Picker(Protocol):
    """A branch with its models."""

    def plans(self, settings: PickSettings, shape_zyx: tuple[int, ...]) -> list[Plan]:
        """What is wished for, and what can be done for less, the cheapest last."""

    @property
    def spectra(self) -> frozenset[tuple[float, ...]]:
        """Spectra of the versions of a volume that the networks have to be shown."""

    def look(self, shown: Shown, settings: PickSettings, device: torch.device) -> Any:
        """What the networks make of a `(z, y, x)` volume: the work for the device."""

    def decide(self, seen: Any, shape_zyx: tuple[int, ...], voxel_angstrom: float, settings: PickSettings) -> Picks:
        """Picks from what the networks made of it, the types in the order of `PARTICLES`, the best of each first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UNetPicker:
    """The 3D U-Net alone."""

    model: UNetModel

    def plans(self, settings: PickSettings, shape_zyx: tuple[int, ...]) -> list[Plan]:
        """Without trying the statistics of the tomogram, with fewer flips, at last without overlap of windows."""
        stride: int = self.model.network.stride  # type: ignore[assignment]
        multiple: int = self.model.network.multiple  # type: ignore[assignment]
        return unet_plans(settings, shape_zyx, stride=stride, multiple=multiple)

    @property
    def spectra(self) -> frozenset[tuple[float, ...]]:
        """That of the model."""
        return frozenset({self.model.settings.spectrum})

    def look(self, shown: Shown, settings: PickSettings, device: torch.device) -> ScoreGrid:
        """Scores on a grid, by the statistics of the tomogram where they make the network surer."""
        volume, how = shown[self.model.settings.spectrum], settings.segment
        network, mixed = self.model.network, how.mixed_precision
        if settings.own_statistics == "always":
            own = with_statistics_of(volume, network, device, mixed_precision=mixed)
            if own is None:
                logger.warning("the U-Net cannot go by a tomogram's own statistics; it goes by those of its training")
            return segment(own or network, volume, settings=how, device=device)
        grid = segment(network, volume, settings=how, device=device)
        if settings.own_statistics == "never" or self.model.calibration is None:
            return grid
        own = with_statistics_of(volume, network, device, mixed_precision=mixed)
        if own is None:
            return grid
        part = middle(volume.shape, own.multiple)  # type: ignore[arg-type]
        tried = segment(own, volume[part], settings=how, device=device)
        gain = self._promise(tried, settings) - self._promise(grid.part(part), settings)
        logger.debug("by its own statistics what the network is sure of changes by %+.3f", gain)
        if gain < LEAST_GAIN:
            return grid
        if tried.score.shape == grid.score.shape:
            return tried
        return segment(own, volume, settings=how, device=device)

    def _promise(self, grid: ScoreGrid, settings: PickSettings) -> float:
        """The score to be expected of a part of a tomogram by what the network is sure of, between 0 and 1."""
        assert self.model.calibration is not None
        voxel = CZII_VOXEL_ANGSTROM  # networks see no others
        candidates = self.propose(grid, voxel, settings, [LEAST_CANDIDATE_SCORE] * len(PARTICLES))
        sure = self.model.calibration.probability(candidates.score, candidates.label) ** SURENESS
        return expected_score(candidates, sure, expected_counts(grid.shape_zyx, voxel))

    def propose(
        self, seen: ScoreGrid, voxel_angstrom: float, settings: PickSettings, thresholds: Sequence[float]
    ) -> Picks:
        """What has a score above a threshold."""
        localise = settings.localise_for(self.model)
        return find_candidates(seen, voxel_angstrom=voxel_angstrom, thresholds=thresholds, settings=localise)

    def decide(
        self, seen: ScoreGrid, shape_zyx: tuple[int, ...], voxel_angstrom: float, settings: PickSettings
    ) -> Picks:
        """What `choose` takes."""
        least = [min(threshold, LEAST_CANDIDATE_SCORE) for threshold in self.model.thresholds]
        candidates = self.propose(seen, voxel_angstrom, settings, least)
        return choose(candidates, self.model, expected_counts(shape_zyx, voxel_angstrom), strict=settings.strict)


@dataclass(frozen=True, kw_only=True, eq=False)
class YoloPicker:
    """YOLO11 on slices alone."""

    model: YoloModel

    def plans(self, settings: PickSettings, shape_zyx: tuple[int, ...]) -> list[Plan]:
        """With fewer slices."""
        return yolo_plans(settings, shape_zyx, size=self.model.settings.size)

    @property
    def spectra(self) -> frozenset[tuple[float, ...]]:
        """That of the model."""
        return frozenset({self.model.settings.spectrum})

    def look(self, shown: Shown, settings: PickSettings, device: torch.device) -> Detections:
        """Boxes in slices."""
        volume = shown[self.model.settings.spectrum]
        return detect(self.model.network, volume, settings.detect, self.model.settings, device)

    def propose(self, seen: Detections, voxel_angstrom: float, settings: PickSettings) -> Picks:
        """What shows in slices, down to low scores."""
        return suppress_each_type(associate(seen, voxel_angstrom, settings.associate), settings.suppression_radius)

    def decide(
        self, seen: Detections, shape_zyx: tuple[int, ...], voxel_angstrom: float, settings: PickSettings
    ) -> Picks:
        """What `choose` takes."""
        candidates = self.propose(seen, voxel_angstrom, settings)
        return choose(candidates, self.model, expected_counts(shape_zyx, voxel_angstrom), strict=settings.strict)


@dataclass(frozen=True, kw_only=True, eq=False)
class HybridPicker:
    """What either finds, by the probability that both give to it."""

    unet: UNetPicker
    yolo: YoloPicker
    model: HybridModel

    def plans(self, settings: PickSettings, shape_zyx: tuple[int, ...]) -> list[Plan]:
        """With less of the U-Net, at last by one of both alone."""
        return hybrid_plans(self.unet.plans(settings, shape_zyx), self.yolo.plans(settings, shape_zyx))

    @property
    def spectra(self) -> frozenset[tuple[float, ...]]:
        """Those of both models."""
        return self.unet.spectra | self.yolo.spectra

    def look(self, shown: Shown, settings: PickSettings, device: torch.device) -> tuple[ScoreGrid, Detections]:
        """Scores on a grid, and boxes in slices."""
        return self.unet.look(shown, settings, device), self.yolo.look(shown, settings, device)

    def decide(
        self,
        seen: tuple[ScoreGrid, Detections],
        shape_zyx: tuple[int, ...],
        voxel_angstrom: float,
        settings: PickSettings,
    ) -> Picks:
        """What `choose` takes."""
        candidates = propose(self.unet, self.yolo, seen, voxel_angstrom, settings)
        ranked = rank(candidates, self.model, settings.suppression_radius)
        return choose(ranked, self.model, expected_counts(shape_zyx, voxel_angstrom), strict=settings.strict)


def propose(
    unet: UNetPicker,
    yolo: YoloPicker,
    seen: tuple[ScoreGrid, Detections],
    voxel_angstrom: float,
    settings: PickSettings,
) -> Candidates:
    """What either finds, down to low scores, each particle once."""
    grid, detections = seen
    least = [settings.fuse.least_unet_score] * len(PARTICLES)
    return join(
        unet.propose(grid, voxel_angstrom, settings, least),
        yolo.propose(detections, voxel_angstrom, settings),
        grid,
        voxel_angstrom,
        settings.fuse,
    )


def load_pickers(branch: str, weights: Path) -> Mapping[str, Picker]:
    """The picker of a branch, by its name; with it those of the cheaper branches that have the same models.

    Parameters
    ----------
    branch
        One of `BRANCHES`.
    weights
        Folder of weights, see `find_models`.

    Raises
    ------
    InputError
        If a model is missing or cannot be used.
    """
    folders = find_models(branch, weights)
    if branch == "unet":
        unet = UNetPicker(model=load_unet(folders[UNET_FOLDER]))
        _warn_if_not_calibrated(unet.model, folders[UNET_FOLDER])
        return {branch: unet}
    model = load_yolo(folders[YOLO_FOLDER])
    yolo = YoloPicker(model=replace(model, network=prepare(model.network, torch.device("cpu"))))
    if branch == "yolo":
        _warn_if_not_calibrated(model, folders[YOLO_FOLDER])
        return {branch: yolo}
    unet = UNetPicker(model=load_unet(folders[UNET_FOLDER]))
    hybrid = load_hybrid(folders[HYBRID_FOLDER])
    _warn_if_not_calibrated(hybrid, folders[HYBRID_FOLDER])
    for name, digest in hybrid.provenance.get(MODELS_NOTE, {}).items():
        if name in folders and weights_digest(folders[name]) != digest:
            logger.warning("%s was fitted with another %s; fit it anew", folders[HYBRID_FOLDER], name)
    return {branch: HybridPicker(unet=unet, yolo=yolo, model=hybrid), "unet": unet, "yolo": yolo}


def _warn_if_not_calibrated(model: Decides, folder: Path) -> None:
    """Say so if a model knows thresholds alone."""
    if model.calibration is None:
        logger.warning("%s has no calibration: what is above its thresholds is picked; fit them anew", folder)
