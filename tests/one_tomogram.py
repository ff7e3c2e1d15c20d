"""What the pipeline does with one tomogram, in two calls."""

import numpy as np
import torch
from numpy.typing import NDArray

from kaggle_cryoet.picking.equalise import show
from kaggle_cryoet.picking.pickers import Picker
from kaggle_cryoet.picking.settings import PickSettings
from kaggle_cryoet.picks import Picks


def pick_tomogram(
    volume: NDArray[np.float32], voxel_angstrom: float, picker: Picker, settings: PickSettings, device: torch.device
) -> Picks:
    """Picks of a normalised `(z, y, x)` volume."""
    seen = picker.look(show(volume, picker.spectra), settings, device)
    return picker.decide(seen, volume.shape, voxel_angstrom, settings)
