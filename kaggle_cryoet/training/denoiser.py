"""Train the denoiser of the simulator on recordings that it simulates itself."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import kaggle_cryoet
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.geometry import CZII_VOXEL_ANGSTROM
from kaggle_cryoet.models.denoiser import Denoiser, check_place, save_denoiser
from kaggle_cryoet.models.precision import cpu_has_bfloat16
from kaggle_cryoet.simulation.microscope import draw_tilt_series
from kaggle_cryoet.simulation.network_denoising import NETWORK_RANGES, draw_network_denoising
from kaggle_cryoet.simulation.nuisance_ranges import NUISANCE_RANGES
from kaggle_cryoet.simulation.reconstruction import recorded_parts
from kaggle_cryoet.simulation.specimen import draw_specimen
from kaggle_cryoet.source import source_commit
from kaggle_cryoet.training.module import OptimiserSettings
from kaggle_cryoet.training.seeds import check_seed
from kaggle_cryoet.training.trainer import quiet

HALF_NOISE = math.sqrt(2.0)
"""Noise of half a recording, over that of the whole one, which is what is denoised in the end."""

Parts = tuple[NDArray[np.float16], NDArray[np.float16]]
"""`(z, y, x)` signal and noise of a recording."""


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining:
    """On what, and how long."""

    specimens: int = 96
    shape_zyx: tuple[int, int, int] = (184, 160, 160)
    crop_voxels: int = 96
    steps: int = 600
    batch_size: int = 2
    noisier: float = 2.5
    """Recordings have between 1 and so many times the noise that is drawn for them in simulations."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.specimens, self.steps, self.batch_size) < 1 or self.noisier < 1:
            raise InputError(f"specimens, steps, batch and noise must be 1 or more, got {self}")
        if self.crop_voxels % Denoiser.multiple or self.crop_voxels > min(self.shape_zyx) or self.crop_voxels < 1:
            raise InputError(f"crops must be multiples of {Denoiser.multiple} voxels that fit specimens, got {self}")


class RecordedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of half recordings and of their signals, both in spreads of the half recording; crop n is always the same.

    Noise2Noise would be shown second halves as targets: the signal and noise that is independent of the first. The
    expected second half is the signal, and so is the answer that both teach; the signal itself teaches it sooner.
    """

    def __init__(self, recordings: list[Parts], settings: DenoiserTraining, seed: int) -> None:
        self.recordings = recordings
        self.settings = settings
        self.seed = seed

    def __len__(self) -> int:
        """Crops of the whole training."""
        return self.settings.steps * self.settings.batch_size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """`(1, z, y, x)` crop and signal."""
        rng = np.random.default_rng((self.seed, index))
        signal, noise = self.recordings[rng.integers(len(self.recordings))]
        level = np.float32(HALF_NOISE * self.settings.noisier ** rng.random())
        shift = rng.integers(noise.shape[1]), rng.integers(noise.shape[2])  # many noises of one, which has no border
        half = signal.astype(np.float32) + level * np.roll(noise.astype(np.float32), shift, (1, 2))
        edge = self.settings.crop_voxels
        crop = tuple(slice(start, start + edge) for start in (rng.integers(size - edge + 1) for size in signal.shape))
        axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
        spread = half.std()
        pair = (np.flip((volume[crop] / spread).astype(np.float32), axes) for volume in (half, signal))
        shown, expected = (torch.from_numpy(volume.copy())[None] for volume in pair)
        return shown, expected


class DenoiserModule(lightning.LightningModule):
    """Mean squared error, AdamW, cosine."""

    def __init__(self, network: Denoiser, steps: int) -> None:
        super().__init__()
        self.network = network
        self.steps = steps
        self.optimiser = OptimiserSettings(weight_decay=1e-4)
        self.unexplained: list[tuple[float, float]] = []
        """Of each step, mean square of what the answer lacks, and of the signal."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Loss of one batch."""
        shown, expected = batch
        answer = self.network(shown.contiguous(memory_format=torch.channels_last_3d))
        loss = functional.mse_loss(answer, expected)
        self.unexplained.append((float(loss.detach()), float(expected.square().mean())))
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW with its schedule by steps."""
        settings = self.optimiser
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: settings.factor(step, self.steps))
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]


def train_denoiser(
    output: str | Path, *, settings: DenoiserTraining | None = None, seed: int = 0, progress: bool = True
) -> float:
    """Train on the CPU, in bfloat16 if it has that, and write `output/weights.safetensors`, over one that is there.

    Returns
    -------
    float
        Share of the signal's mean square that the network leaves unexplained, over the last fifth of the training.

    Raises
    ------
    InputError
        If a number makes no sense or the output cannot be written.
    """
    settings = settings or DenoiserTraining()
    check_seed(seed)
    output = Path(output)
    check_place(output)
    try:
        output.mkdir(parents=True, exist_ok=True)  # before minutes of work
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error})") from error
    recordings = _recordings(settings, seed, progress=progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Denoiser().to(memory_format=torch.channels_last_3d)
    module = DenoiserModule(network, settings.steps)
    with quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            precision="bf16-mixed" if cpu_has_bfloat16() else "32-true",
            max_epochs=1,
            gradient_clip_val=1.0,
            logger=False,
            plugins=[LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(RecordedCrops(recordings, settings, seed), batch_size=settings.batch_size))
    lacking, signal = np.array(module.unexplained[-(settings.steps // 5 + 1) :]).sum(axis=0)
    provenance = {
        "version": kaggle_cryoet.__version__,
        "commit": source_commit(),
        "seed": seed,
        "settings": asdict(settings),
        "ranges": {name: asdict(span) for name, span in NETWORK_RANGES.items()},
        "unexplained": round(float(lacking / signal), 4),
    }
    save_denoiser(output, network, provenance)
    return float(lacking / signal)


def _recordings(settings: DenoiserTraining, seed: int, *, progress: bool) -> list[Parts]:
    """Signal and noise of specimens of the setting `training`, each recorded in its own way."""
    from tqdm.auto import tqdm

    recordings = []
    for number in tqdm(range(settings.specimens), desc="recording", unit="specimen", disable=not progress):
        rng = np.random.default_rng((seed, number))
        nuisances = NUISANCE_RANGES["training"].draw_of_set(seed, number)
        specimen = draw_specimen(nuisances, settings.shape_zyx, rng, voxel_angstrom=CZII_VOXEL_ANGSTROM)
        series = draw_tilt_series(nuisances, CZII_VOXEL_ANGSTROM, rng)
        denoising = draw_network_denoising(rng)
        signal, noise = recorded_parts(specimen.density, series, nuisances, rng, denoising)
        spread = noise.std()
        recordings.append(((signal / spread).astype(np.float16), (noise / spread).astype(np.float16)))
    return recordings
