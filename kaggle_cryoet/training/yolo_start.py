"""Where a training of a detector begins: fresh weights, a model folder, a `.pt` file, or its own checkpoint."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import load_yolo
from kaggle_cryoet.models.yolo11 import SIZES, YoloSettings, build_yolo, offline_ultralytics


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a training begins with."""

    size: str
    weights: dict[str, Tensor] = field(default_factory=dict)
    """State of a network; what does not fit in shape, as a head for other classes, is left out."""
    origin: Any = None
    """Name of the file, or provenance of the model."""


def starting_weights(start_from: str | Path | None, size: str | None) -> Start:
    """Weights to start with.

    Raises
    ------
    InputError
        If there are none, or they are of another network than a YOLO11 of this size.
    """
    if size is not None and size not in SIZES:
        raise InputError(f"unknown YOLO11 size {size!r}; expected one of {', '.join(SIZES)}")
    if start_from is None:
        return Start(size=size or SIZES[0])
    path = Path(start_from)
    if path.is_dir():
        model = load_yolo(path)
        found = Start(size=model.settings.size, weights=dict(model.network.state_dict()), origin=dict(model.provenance))
    elif path.suffix == ".pt" and path.is_file():
        network, _ = _read_pt(path)
        weights = dict(network.state_dict())
        found = Start(size=_size_of(weights, path), weights=weights, origin=path.name)
    else:
        raise InputError(f"{path}: is neither a model folder nor a .pt file")
    if size not in (None, found.size):
        raise InputError(f"{path}: is a YOLO11 of size {found.size!r}, expected {size!r}")
    return found


def resumed_start(model: Path) -> Start:
    """What the training that wrote a model folder began with, but for the weights, which its checkpoint has."""
    written = load_yolo(model)
    return Start(size=written.settings.size, origin=written.provenance.get("started_from"))


def check_checkpoint(path: Path, origin: Mapping[str, int]) -> None:
    """Raise unless a training can go on from a checkpoint, with the `origin` it was begun with.

    Raises
    ------
    InputError
        If there is none, it is broken, of a training of another seed, or at the end of the schedule that a time limit
        may have shortened.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no checkpoint to resume from")
    _, content = _read_pt(path)
    begun = content.get("train_args", {})
    for name, value in origin.items():
        if begun.get(name) != value:
            raise InputError(
                f"{path}: is of a training with {name} = {begun.get(name)}, got {value}; to train on in another way, "
                "start a new training from its model"
            )
    if content.get("epoch", -1) + 1 >= begun.get("epochs", 0):
        raise InputError(f"{path}: all {begun.get('epochs', 0)} epochs are done; there is nothing to resume")


def _read_pt(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Network and content of an ultralytics file. It is executed in part: it must come from a trusted place."""
    offline_ultralytics()
    from ultralytics.nn import tasks

    reader: Any = tasks  # without types, which ultralytics has only in part
    try:
        network, content = reader.load_checkpoint(str(path))
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise InputError(f"{path}: not a whole ultralytics file ({' '.join(str(error).split())[:200]})") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not an ultralytics file ({error})") from None
    return network, content


def _size_of(weights: Mapping[str, Tensor], path: Path) -> str:
    """The size whose network has all these weights, but for those of the classes."""
    shapes = {name: value.shape for name, value in weights.items() if not name.startswith("model.23.cv3")}
    for size in SIZES:
        own = build_yolo(YoloSettings(size=size)).state_dict()
        if shapes == {name: value.shape for name, value in own.items() if not name.startswith("model.23.cv3")}:
            return size
    raise InputError(f"{path}: is no YOLO11; expected the file of one, e.g. yolo11n.pt")
