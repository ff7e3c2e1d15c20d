"""Ways of training by name: a network, and everything that goes with it."""

from dataclasses import dataclass, field

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.unet3d import PRESET_SETTINGS, UNetSettings
from kaggle_cryoet.picking.candidates import LocaliseSettings
from kaggle_cryoet.training.crops import CropSettings
from kaggle_cryoet.training.data import DataSettings
from kaggle_cryoet.training.losses import LossSettings
from kaggle_cryoet.training.module import OptimiserSettings, UNetTrainingSettings
from kaggle_cryoet.training.targets import TargetSettings
from kaggle_cryoet.training.trainer import TrainingLength


@dataclass(frozen=True, kw_only=True)
class TrainingPreset:
    """A network and how it is trained."""

    network: str
    """Its name in `PRESET_SETTINGS`."""
    training: UNetTrainingSettings = field(default_factory=UNetTrainingSettings)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training, so that each can be changed by its name."""

    training: UNetTrainingSettings
    length: TrainingLength = field(default_factory=TrainingLength)
    crops: CropSettings = field(default_factory=CropSettings)
    data: DataSettings = field(default_factory=DataSettings)


TRAINING_PRESETS = {
    "half": TrainingPreset(network="half"),
    "host": TrainingPreset(network="host"),
    "paper": TrainingPreset(
        network="host",
        training=UNetTrainingSettings(
            targets=TargetSettings(shape="sphere"),
            loss=LossSettings(name="tversky"),
            optimiser=OptimiserSettings(learning_rate=1e-3),
            localise=LocaliseSettings(method="centroids"),
            equalise=False,
        ),
    ),
}
"""`half` is ours; `paper` is the paper's: its network, spheres, Tversky loss, centroids of blobs; `host` trains the
paper's network in our way."""


def training_preset(name: str) -> TrainingPreset:
    """The preset of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in TRAINING_PRESETS:
        raise InputError(f"unknown preset {name!r}; expected one of {', '.join(TRAINING_PRESETS)}")
    return TRAINING_PRESETS[name]


def network_settings(preset: str, training: UNetTrainingSettings) -> UNetSettings:
    """What a preset's network is built from, and how its answers are read after a training of these settings."""
    network = PRESET_SETTINGS[training_preset(preset).network]
    return UNetSettings(preset=network.preset, channels=network.channels, localise=training.localise.method)
