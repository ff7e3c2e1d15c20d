"""What the trainer runs: one step of training, one look at the score, the optimiser and its schedule."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.metric import Score, evaluate
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.candidates import LEAST_CANDIDATE_SCORE, LocaliseSettings, find_candidates
from kaggle_cryoet.picking.choose import above
from kaggle_cryoet.picking.segment import ScoreGrid, SegmentSettings, segment
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.training.augment import AugmentSettings, augment, mix_pairs
from kaggle_cryoet.training.decisions import fit_decisions
from kaggle_cryoet.training.dice import count_overlap, dice
from kaggle_cryoet.training.feature_mixing import FeatureMixing
from kaggle_cryoet.training.losses import Loss, LossSettings
from kaggle_cryoet.training.targets import TargetSettings
from kaggle_cryoet.training.volumes import LabelledVolume

_Part = tuple[dict[str, Picks], NDArray[np.int64]]
"""Candidates of some tomograms, and the overlap with the target in all of them."""

ORIGIN = "origin"
"""Where a checkpoint says of what training it is."""
SCHEDULE = "schedule"
"""Where it says how many steps the schedule has, which are less than planned if a time limit shortened it."""


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """AdamW under a cosine schedule with warm-up."""

    learning_rate: float = 2e-3
    """Highest learning rate."""
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.03
    """Share of all steps over which the rate rises from nothing."""
    final_fraction: float = 0.02
    """Learning rate at the end, as a share of the highest."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise InputError(f"the learning rate must be positive, the decay not negative, got {self}")
        if not (0 <= self.warmup_fraction <= 1 and 0 <= self.final_fraction <= 1):
            raise InputError(f"shares of the schedule must be between 0 and 1, got {self}")

    def factor(self, step: int, steps: int) -> float:
        """Learning rate at a step, as a share of the highest."""
        warmup = max(1, round(self.warmup_fraction * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class UNetTrainingSettings:
    """Everything that shapes the training of a U-Net but its data and its length."""

    targets: TargetSettings = field(default_factory=TargetSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    augmentation: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    validation: SegmentSettings = field(default_factory=SegmentSettings)
    """How the network is applied to the validation tomograms."""
    localise: LocaliseSettings = field(default_factory=LocaliseSettings)
    """How points are made of its scores."""
    equalise: bool = True
    """Whether tomograms are given one spectrum before they are trained on and picked: that of the model to start from,
    or else the mean of those that are trained on."""
    hold_statistics: bool = False
    """Whether BatchNorm keeps the statistics of the model to start from, for short trainings in small batches."""
    feature_mixing: float = 0.0
    """Share of the crops whose features, on the two finest levels of `half`, go a part of the way to the means and
    spreads of those of another crop of the batch."""

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.feature_mixing <= 1:
            raise InputError(f"the share of crops whose features are mixed is from 0 to 1, got {self.feature_mixing}")


def predict_candidates(
    network: nn.Module,
    volumes: Sequence[LabelledVolume],
    settings: SegmentSettings,
    device: torch.device,
    localise: LocaliseSettings | None = None,
) -> dict[str, Picks]:
    """Candidates of each volume down to `LEAST_CANDIDATE_SCORE`, by name; by local maxima if nothing else is said."""
    localise = localise or LocaliseSettings()
    return {
        volume.name: _candidates(_scores(network, volume, settings, device), volume, localise) for volume in volumes
    }


def _scores(network: nn.Module, volume: LabelledVolume, settings: SegmentSettings, device: torch.device) -> ScoreGrid:
    return segment(network, volume.volume.astype("float32"), settings=settings, device=device)


def _candidates(grid: ScoreGrid, volume: LabelledVolume, localise: LocaliseSettings) -> Picks:
    return find_candidates(
        grid,
        voxel_angstrom=volume.voxel_angstrom,
        thresholds=[LEAST_CANDIDATE_SCORE] * len(PARTICLES),
        settings=localise,
    )


def above_thresholds(candidates: Mapping[str, Picks], thresholds: Sequence[float]) -> dict[str, Picks]:
    """The candidates whose scores are above their types' thresholds."""
    return {run: above(picks, thresholds) for run, picks in candidates.items()}


class UNetModule(lightning.LightningModule):
    """A U-Net, its loss, and the score of its average on the validation tomograms."""

    def __init__(
        self,
        network: nn.Module,
        *,
        settings: UNetTrainingSettings,
        voxel_angstrom: float,
        validation: Sequence[LabelledVolume],
        planned_steps: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.validation_volumes = validation
        self.planned_steps = planned_steps
        self.steps = steps
        self.seed = seed
        self.thresholds: tuple[float, ...] = (0.5,) * len(PARTICLES)
        self.calibration: Calibration | None = None
        self.validation_score: Score | None = None
        stride: int = network.stride  # type: ignore[assignment]
        self.loss = Loss(settings.loss, settings.targets, voxel_angstrom, stride)
        self.feature_mixing: FeatureMixing | None = None
        if settings.feature_mixing:
            encoders: nn.ModuleList = network.encode  # type: ignore[assignment]
            self.feature_mixing = FeatureMixing(encoders[:2], settings.feature_mixing)

    def setup(self, stage: str) -> None:
        """Give each of several processes tensors of its own: those it was sent lie in memory that all of them share.

        Weights are restored before they are on a GPU, and not by all processes at the same moment.
        """
        if self.trainer.world_size > 1:
            for tensor in itertools.chain(self.parameters(), self.buffers()):
                tensor.data = tensor.data.clone()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch, augmented by a generator that depends on seed, step and rank of the device alone."""
        if self.settings.hold_statistics:
            for layer in self.network.modules():
                if isinstance(layer, nn.BatchNorm3d):
                    layer.eval()
        crop, target = batch
        seed = self.seed * 1_000_003 + self.global_step + (self.global_rank << 40)
        generator = torch.Generator(self.device).manual_seed(seed)
        crop, target = mix_pairs(crop, target, self.settings.augmentation, generator)
        crop = augment(crop, self.settings.augmentation, generator)
        if self.feature_mixing is not None:
            self.feature_mixing.generator = generator
        loss: Tensor = self.loss(self.network(crop), target)
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(crop), sync_dist=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_index: int) -> None:
        """Pick in the validation tomograms; thresholds are fitted on the same, so that the score is an upper bound.

        It happens in the one step of the validation epoch, not at its end, when the average of the weights has already
        been taken out of the network again. The batch is empty of meaning. Several devices share the tomograms.
        """
        if not self.validation_volumes:
            return
        candidates: dict[str, Picks] = {}
        overlap = np.zeros((len(PARTICLES), 3), dtype=np.int64)
        for volume in self.validation_volumes[self.global_rank :: self.trainer.world_size]:
            grid = _scores(self.network, volume, self.settings.validation, self.device)
            candidates[volume.name] = _candidates(grid, volume, self.settings.localise)
            overlap += count_overlap(grid, volume.picks, volume.voxel_angstrom, self.settings.targets)
        for others_candidates, others_overlap in self._of_other_devices((candidates, overlap)):
            candidates |= others_candidates
            overlap += others_overlap
        truth = {volume.name: volume.picks for volume in self.validation_volumes}
        fitted = fit_decisions(candidates, truth, known=None, least_score=LEAST_CANDIDATE_SCORE)
        self.thresholds, self.calibration = fitted.thresholds, fitted.calibration
        self.validation_score = evaluate(above_thresholds(candidates, self.thresholds), truth)
        self.log("score", self.validation_score.score, prog_bar=True, batch_size=1, sync_dist=True)
        for (name, row), coefficient in zip(self.validation_score.particles.items(), dice(overlap), strict=True):
            self.log(f"fbeta_{name}", row.fbeta, batch_size=1, sync_dist=True)
            if np.isfinite(coefficient):
                self.log(f"dice_{name}", float(coefficient), batch_size=1, sync_dist=True)

    def _of_other_devices(self, part: _Part) -> list[_Part]:
        """What the processes of the other devices have come to."""
        if self.trainer.world_size == 1:
            return []
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, part)
        return parts[: self.global_rank] + parts[self.global_rank + 1 :]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say of what training the checkpoint is, so that another one does not go on from it."""
        checkpoint[ORIGIN] = {"steps": self.planned_steps, "seed": self.seed}
        checkpoint[SCHEDULE] = self.steps

    def configure_optimizers(self) -> Any:
        """AdamW; norms and biases do not decay."""
        chosen = self.settings.optimiser
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": kernels, "weight_decay": chosen.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=chosen.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: chosen.factor(step, self.steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
