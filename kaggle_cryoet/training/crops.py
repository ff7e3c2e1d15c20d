"""Crops of labelled tomograms: a stream that depends on nothing but the seed and the number of the crop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import angstrom_to_index
from kaggle_cryoet.particles import PARTICLES
from kaggle_cryoet.training.targets import TargetSettings, draw_targets
from kaggle_cryoet.training.volumes import LabelledVolume, find_labelled_runs, load_labelled_volume
from kaggle_cryoet.training.warp import Warp, crop_voxel_angstrom, move_picks, read_warped, warp_matrix

__all__ = [
    "CropDataset",
    "CropSettings",
    "EpochSampler",
    "LabelledVolume",
    "find_labelled_runs",
    "load_labelled_volume",
]


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How crops are drawn."""

    shape_zyx: tuple[int, int, int] = (96, 96, 96)
    """Voxels of a crop at full resolution."""
    particle_fraction: float = 0.85
    """Share of crops, but for hard ones, that hold a particle for sure, each type as often as any other; the rest lie
    anywhere."""
    hard_fraction: float = 0.15
    """Share of all crops that hold a place which was taken for a particle and is none, if such places are known."""
    warp_fraction: float = 0.5
    """Share of crops that are turned and scaled. It is not all, since interpolation smooths, which prediction does
    not."""
    rotation_degrees: float = 10.0
    """Largest angle about z, either way. The missing wedge turns with it, so that it is small."""
    scale: float = 0.04
    """Largest part by which a crop is shown smaller or larger, particles and all."""

    def __post_init__(self) -> None:
        """Check shape and shares."""
        shares = (self.particle_fraction, self.hard_fraction, self.warp_fraction)
        if min(self.shape_zyx) < 1 or not all(0 <= share <= 1 for share in shares):
            raise InputError(f"crops need positive edges and shares between 0 and 1, got {self}")
        if not (0 <= self.rotation_degrees <= 180 and 0 <= self.scale < 0.5):
            raise InputError(f"crops are turned by 0 to 180 degrees and scaled by less than a half, got {self}")


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
        weight = np.array([volume.weight for volume in volumes])
        self.of_label = [
            _Places([np.flatnonzero(volume.picks.label == label) for volume in volumes], weight)
            for label in range(len(PARTICLES))
        ]
        self.hard = _Places([np.arange(len(volume.hard_zyx_angstrom)) for volume in volumes], weight)
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
        voxels = weight * [volume.volume.size for volume in volumes]
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
        warp = self._warp(rng)
        crop = read_warped(volume.volume, start, shape, warp)
        target = draw_targets(
            move_picks(volume.picks, volume.voxel_angstrom, volume.volume.shape, start, shape, warp),
            shape_zyx=tuple(int(edge) // self.stride for edge in shape),  # type: ignore[arg-type]
            stride=self.stride,
            voxel_angstrom=crop_voxel_angstrom(volume.voxel_angstrom, warp),
            settings=self.targets,
        )
        crop = np.ascontiguousarray(np.flip(crop, flips))
        target = np.ascontiguousarray(np.flip(target, tuple(axis + 1 for axis in flips)))
        return torch.from_numpy(crop)[None], torch.from_numpy(target)

    def _warp(self, rng: np.random.Generator) -> Warp | None:
        """How a crop is turned and scaled; None if it is not."""
        chosen = self.settings
        if rng.random() >= chosen.warp_fraction or not (chosen.rotation_degrees or chosen.scale):
            return None
        degrees = rng.uniform(-chosen.rotation_degrees, chosen.rotation_degrees)
        return warp_matrix(degrees, 1 + rng.uniform(-chosen.scale, chosen.scale))

    def _place(self, rng: np.random.Generator) -> tuple[LabelledVolume, NDArray[np.int64]]:
        """A volume and the first voxel of a crop in it."""
        shape = np.array(self.settings.shape_zyx)
        if len(self.hard) and rng.random() < self.settings.hard_fraction:
            which, place = self.hard.draw(rng)
            volume = self.volumes[which]
            start = _start_around(volume.hard_zyx_angstrom[place], volume, shape, rng)
        elif rng.random() < self.settings.particle_fraction:
            which, particle = self.of_label[self.present[rng.integers(len(self.present))]].draw(rng)
            volume = self.volumes[which]
            start = _start_around(volume.picks.position_zyx_angstrom[particle], volume, shape, rng)
        else:
            volume = self.volumes[rng.choice(len(self.volumes), p=self.volume_share)]
            start = np.array([rng.integers(max(n - e, 0) + 1) for n, e in zip(volume.volume.shape, shape, strict=True)])
        return volume, np.clip(start, 0, np.maximum(np.array(volume.volume.shape) - shape, 0))


def _start_around(
    position_angstrom: NDArray[np.float64], volume: LabelledVolume, shape: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """First voxel of a crop with a place anywhere in it but for its rim."""
    centre = angstrom_to_index(position_angstrom, volume.voxel_angstrom)
    return np.round(centre - shape / 2 + rng.uniform(-0.4, 0.4, 3) * shape).astype(np.int64)


class _Places:
    """Places in several volumes, drawn by the weights of the volumes."""

    def __init__(self, indices: Sequence[NDArray[np.int64]], weight: NDArray[np.float64]) -> None:
        counts = [len(index) for index in indices]
        self.volume = np.repeat(np.arange(len(indices)), counts)
        self.index = np.concatenate(indices)
        self.cumulative = np.cumsum(np.repeat(weight, counts))

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.index)

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """A volume, and the index of a place in it."""
        chosen = np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right")
        return int(self.volume[chosen]), int(self.index[chosen])


class EpochSampler(Sampler[int]):
    """Numbers of the crops of an epoch: each epoch goes on where the last one ended, so that none repeats.

    Of several processes, each with its rank, every one draws its share of each batch.
    """

    def __init__(self, length: int, *, rank: int = 0, processes: int = 1, first_epoch: int = 0) -> None:
        self.length = length
        self.rank = rank
        self.processes = processes
        self.epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of crops in one epoch that this process draws."""
        return self.length // self.processes

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in order."""
        return iter(range(self.epoch * self.length + self.rank, (self.epoch + 1) * self.length, self.processes))
