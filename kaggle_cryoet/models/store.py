"""A model is a folder: `model.json` (what it is, its thresholds, its origin) and `weights.safetensors` (float16).

Nothing in it is executed when it is read.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.unet3d import UNetSettings, build_unet
from kaggle_cryoet.particles import PARTICLE_NAMES

FORMAT = 1
DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
SHIPPED = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, kw_only=True, eq=False)
class UNetModel:
    """A trained 3D U-Net with what is needed to pick with it."""

    network: nn.Module
    settings: UNetSettings
    thresholds: tuple[float, ...]
    """Score above which a candidate is a pick, for each particle type in the order of `PARTICLES`."""
    provenance: Mapping[str, Any]
    """Data, seeds, commit, time and scores."""


def save_unet(directory: str | Path, model: UNetModel) -> None:
    """Write a model folder; one that is there is replaced once the new one is whole.

    Raises
    ------
    InputError
        If something else than a model is there, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    directory = Path(directory)
    if not _is_free_or_model(directory):
        raise InputError(f"{directory}: exists and is no model folder; it is not replaced by one")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            unfinished.chmod(0o755)  # temporary folders are for their owner alone
            _write_files(unfinished, model)
            _take_place(unfinished, directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory}: the model cannot be written ({error})") from error


def _is_free_or_model(directory: Path) -> bool:
    """Whether nothing is at a path, or an empty folder, or one that holds a model and nothing more."""
    if not directory.exists():
        return True
    return directory.is_dir() and {entry.name for entry in directory.iterdir()} <= {DESCRIPTION_FILE, WEIGHTS_FILE}


def _write_files(directory: Path, model: UNetModel) -> None:
    """Write both files of a model into a folder."""
    from safetensors.torch import save_file

    description = {
        "format": FORMAT,
        "kind": "unet3d",
        "settings": asdict(model.settings),
        "thresholds": dict(zip(PARTICLE_NAMES, model.thresholds, strict=True)),
        "provenance": dict(model.provenance),
    }
    # norms stay in float32: a few kilobytes, and a small variance would vanish in half precision
    weights = {
        name: (value.half() if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in model.network.state_dict().items()
    }
    save_file(weights, directory / WEIGHTS_FILE)
    (directory / WEIGHTS_FILE).chmod(0o644)  # safetensors lets nobody but the owner read it
    (directory / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf8")


def _take_place(unfinished: Path, directory: Path) -> None:
    """Give a finished folder its name; one that has the name goes, unless the new one does not get there."""
    if not directory.exists():
        unfinished.rename(directory)
        return
    previous = unfinished.with_name(unfinished.name + ".previous")
    try:
        directory.rename(previous)
        unfinished.rename(directory)
    except BaseException:
        if previous.exists() and not directory.exists():
            previous.rename(directory)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def load_unet(directory: str | Path) -> UNetModel:
    """Read a model folder, onto the CPU, in float32, ready to predict.

    Raises
    ------
    InputError
        If the folder is incomplete, of another format or kind, or its weights do not fit its settings.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    description = _read_description(directory)
    try:
        settings = UNetSettings(
            preset=description["settings"]["preset"],
            channels=tuple(int(width) for width in description["settings"]["channels"]),
        )
        thresholds = tuple(float(description["thresholds"][name]) for name in PARTICLE_NAMES)
        provenance = dict(description["provenance"])
        if not all(math.isfinite(threshold) for threshold in thresholds):
            raise ValueError(f"thresholds {thresholds}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{directory / DESCRIPTION_FILE}: {error!r}; expected settings, a finite threshold per particle, provenance"
        ) from None
    network = build_unet(settings)
    path = directory / WEIGHTS_FILE
    try:
        weights = load_file(path)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except FileNotFoundError:
        raise InputError(f"{directory}: {WEIGHTS_FILE} is missing") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: the weights do not fit {settings}: {said[:200]}") from None
    return UNetModel(network=network.eval(), settings=settings, thresholds=thresholds, provenance=provenance)


def _read_description(directory: Path) -> dict[str, Any]:
    """The content of `model.json`, checked for format and kind."""
    path = directory / DESCRIPTION_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such model folder")
    if not path.is_file():
        raise InputError(f"{directory}: {DESCRIPTION_FILE} is missing; expected a model folder")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        found = description.get("format"), description.get("kind")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(f"{path}: not valid JSON of a model ({error})") from None
    if found != (FORMAT, "unet3d"):
        raise InputError(f"{path}: format and kind are {found}, expected {(FORMAT, 'unet3d')}")
    return description
