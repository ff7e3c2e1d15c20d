"""Crops of labelled tomograms: a stream that depends on nothing but the seed and the number of the crop."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index, index_to_angstrom
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.picking.normalise import normalise
from kaggle_cryoet.picks import Picks, check_inside, concatenate, read_copick
from kaggle_cryoet.runs import find_runs
from kaggle_cryoet.tomogram import RunLocation, read_tomogram
from kaggle_cryoet.training.targets import TargetSettings, draw_targets

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledVolume:
    """A normalised tomogram with its particles."""

    name: str
    volume: NDArray[np.float16]
    """`(z, y, x)`, normalised."""
    picks: Picks
    voxel_angstrom: float


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How crops are drawn."""

    shape_zyx: tuple[int, int, int] = (96, 96, 96)
    """Voxels of a crop at full resolution."""
    particle_fraction: float = 0.85
    """Share of crops that hold a particle for sure, each type as often as any other; the rest lie anywhere."""

    def __post_init__(self) -> None:
        """Check shape and share."""
        if min(self.shape_zyx) < 1 or not 0 <= self.particle_fraction <= 1:
            raise InputError(f"crops need positive edges and a share of particles between 0 and 1, got {self}")


def find_labelled_runs(directories: Sequence[Path]) -> list[RunLocation]:
    """Every run below the directories; each must have picks.

    Raises
    ------
    InputError
        If a run has no picks, or there is no run.
    """
    runs = [run for directory in directories for run in find_runs(directory)]
    unlabelled = [run.name for run in runs if run.picks_directory is None]
    if unlabelled:
        raise InputError(f"runs without picks cannot be trained on: {', '.join(unlabelled[:5])}")
    return runs


def load_labelled_volume(run: RunLocation) -> LabelledVolume:
    """Read a run, normalise it, and keep it at half precision.

    Raises
    ------
    InputError
        If the run has no picks, or they or its tomogram are faulty.
    """
    if run.picks_directory is None:
        raise InputError(f"run {run.name} has no picks")
    tomogram = read_tomogram(run)
    picks = read_copick(run.picks_directory)
    check_inside(picks, tomogram.data.shape, tomogram.voxel_angstrom, f"picks of run {run.name}")
    return LabelledVolume(
        name=run.name,
        volume=normalise(tomogram.data).astype(np.float16),
        picks=picks,
        voxel_angstrom=tomogram.voxel_angstrom,
    )


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Crop number i is `(1, z, y, x)` and its target `(class, z / stride, ...)`, always the same for the same seed."""

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        *,
        length: int,
        stride: int,
        seed: int,
        settings: CropSettings | None = None,
        targets: TargetSettings | None = None,
    ) -> None:
        if not volumes:
            raise InputError("no labelled tomograms to train on")
        self.volumes = volumes
        self.length = length
        self.stride = stride
        self.seed = seed
        self.settings = settings or CropSettings()
        self.targets = targets or TargetSettings()
        self.of_label = [
            np.array(
                [(v, p) for v, volume in enumerate(volumes) for p in np.flatnonzero(volume.picks.label == label)],
                dtype=np.int64,
            ).reshape(-1, 2)
            for label in range(len(PARTICLES))
        ]
        self.present = [label for label in range(len(PARTICLES)) if len(self.of_label[label])]
        if not self.present:
            raise InputError("the tomograms to train on have no particles")
        for volume in volumes:
            if any(
                edge > 2 * size - 1 for edge, size in zip(self.settings.shape_zyx, volume.volume.shape, strict=True)
            ):
                raise InputError(
                    f"{volume.name}: {volume.volume.shape} voxels are less than half of a crop of "
                    f"{self.settings.shape_zyx}, too few to be mirrored into it"
                )
        voxels = np.array([float(volume.volume.size) for volume in volumes])
        self.volume_share = voxels / voxels.sum()

    def __len__(self) -> int:
        """Return the number of crops in one epoch."""
        return self.length

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Draw crop `number`, which may lie beyond the first epoch."""
        rng = np.random.default_rng((self.seed, number))
        volume, start = self._place(rng)
        shape = np.array(self.settings.shape_zyx)
        flips = tuple(int(axis) for axis in range(3) if rng.random() < 0.5)
        box = tuple(slice(s, s + e) for s, e in zip(start, shape, strict=True))
        crop = volume.volume[box].astype(np.float32)
        missing = shape - crop.shape
        crop = np.pad(crop, [(0, int(m)) for m in missing], mode="reflect")
        target = draw_targets(
            _with_reflections(volume, missing),
            shape_zyx=tuple(int(edge) // self.stride for edge in shape),  # type: ignore[arg-type]
            stride=self.stride,
            voxel_angstrom=volume.voxel_angstrom,
            origin_zyx=tuple(int(s) for s in start),  # type: ignore[arg-type]
            settings=self.targets,
        )
        crop = np.ascontiguousarray(np.flip(crop, flips))
        target = np.ascontiguousarray(np.flip(target, tuple(axis + 1 for axis in flips)))
        return torch.from_numpy(crop)[None], torch.from_numpy(target)

    def _place(self, rng: np.random.Generator) -> tuple[LabelledVolume, NDArray[np.int64]]:
        """A volume and the first voxel of a crop in it."""
        shape = np.array(self.settings.shape_zyx)
        if rng.random() < self.settings.particle_fraction:
            candidates = self.of_label[self.present[rng.integers(len(self.present))]]
            which, particle = candidates[rng.integers(len(candidates))]
            volume = self.volumes[which]
            centre = angstrom_to_index(volume.picks.position_zyx_angstrom[particle], volume.voxel_angstrom)
            start = np.round(centre - shape / 2 + rng.uniform(-0.4, 0.4, 3) * shape).astype(np.int64)
        else:
            volume = self.volumes[rng.choice(len(self.volumes), p=self.volume_share)]
            start = np.array([rng.integers(max(n - e, 0) + 1) for n, e in zip(volume.volume.shape, shape, strict=True)])
        return volume, np.clip(start, 0, np.maximum(np.array(volume.volume.shape) - shape, 0))


def _with_reflections(volume: LabelledVolume, missing: NDArray[np.int64]) -> Picks:
    """The picks and their mirror images behind the far faces of those axes along which a crop is padded."""
    picks = volume.picks
    for axis in np.flatnonzero(missing):
        twice_the_face = 2 * index_to_angstrom(np.array(volume.volume.shape[axis] - 1.0), volume.voxel_angstrom)
        position = picks.position_zyx_angstrom.copy()
        position[:, axis] = twice_the_face - position[:, axis]
        picks = concatenate([picks, replace(picks, position_zyx_angstrom=position)])
    return picks


class EpochSampler(Sampler[int]):
    """Numbers of the crops of an epoch: each epoch goes on where the last one ended, so that none repeats."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of crops in one epoch."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in order."""
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))
