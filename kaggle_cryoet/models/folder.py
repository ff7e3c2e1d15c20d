"""A model is a folder: `model.json` (what it is, what decides for it, its origin) and `weights.safetensors` (float16).

A record of its training may lie beside them in `training/`. Nothing in a folder is executed when it is read.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.calibration import Calibration
from kaggle_cryoet.particles import PARTICLE_NAMES

FORMAT = 1
DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
WEIGHTS_DIGEST = "weights_sha256"
"""Where `model.json` says which weights it describes."""
PREVIOUS = ".previous"
"""Ends the name of a model that is being replaced."""
TRAINING_FOLDER = "training"
"""Tables and plots of a training; they stay when the model beside them is replaced."""


def write_folder(
    directory: Path,
    description: Mapping[str, Any],
    *,
    thresholds: Sequence[float],
    calibration: Calibration | None,
    provenance: Mapping[str, Any],
    network: nn.Module | None = None,
) -> None:
    """Write a model folder; one that is there is replaced once the new one is whole, but for `training/`, which stays.

    Raises
    ------
    InputError
        If something else than a model is there, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    if not _is_free_or_model(directory):
        raise InputError(f"{directory}: exists and is no model folder; it is not replaced by one")
    content: dict[str, Any] = {
        "format": FORMAT,
        **description,
        "classes": PARTICLE_NAMES,
        "thresholds": dict(zip(PARTICLE_NAMES, thresholds, strict=True)),
        "calibration": None if calibration is None else calibration.to_json_dict(),
        "provenance": dict(provenance),
    }
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            unfinished.chmod(0o755)  # temporary folders are for their owner alone
            if network is not None:
                write_weights(unfinished / WEIGHTS_FILE, network)
                content[WEIGHTS_DIGEST] = weights_digest(unfinished)
            (unfinished / DESCRIPTION_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")
            if (directory / TRAINING_FOLDER).is_dir():
                shutil.copytree(directory / TRAINING_FOLDER, unfinished / TRAINING_FOLDER)
            _take_place(unfinished, directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory}: the model cannot be written ({error})") from error


def _is_free_or_model(directory: Path) -> bool:
    """Whether nothing is at a path, or an empty folder, or one that holds a model and nothing more."""
    if not directory.exists():
        return True
    known = {DESCRIPTION_FILE, WEIGHTS_FILE, TRAINING_FOLDER}
    return directory.is_dir() and {entry.name for entry in directory.iterdir()} <= known


def write_weights(path: Path, network: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of a network at half precision, with what the file says of itself."""
    from safetensors.torch import save_file

    # norms stay in float32: a few kilobytes, and a small variance would vanish in half precision
    weights = {
        name: (value.half() if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(weights, path, metadata=None if metadata is None else dict(metadata))
    path.chmod(0o644)  # safetensors lets nobody but the owner read it


def _take_place(unfinished: Path, directory: Path) -> None:
    """Give a finished folder its name; one that has the name goes, unless the new one does not get there."""
    if not directory.exists():
        unfinished.rename(directory)
        return
    previous = unfinished.with_name(unfinished.name + PREVIOUS)
    try:
        directory.rename(previous)
        unfinished.rename(directory)
    except BaseException:
        if previous.exists() and not directory.exists():
            previous.rename(directory)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def mend_folder(directory: Path) -> None:
    """Undo what a writer left that was killed: take back a model that was to be replaced, remove what is unfinished.

    Only for who is sure to be the sole writer.
    """
    left = sorted(directory.parent.glob(f".{directory.name}.????????*"))
    for path in left:
        if path.name.endswith(PREVIOUS) and not directory.exists():
            path.rename(directory)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def read_description(directory: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The content of `model.json`, checked for format, kind and classes; names the file in what is raised about it.

    Raises
    ------
    InputError
        If there is none, it is broken or of another kind, or the block it is read in misses something in it.
    """
    path = directory / DESCRIPTION_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such model folder")
    if not path.is_file():
        raise InputError(f"{directory}: {DESCRIPTION_FILE} is missing; expected a model folder")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        found = description.get("format"), description.get("kind")
        classes = description.get("classes", list(PARTICLE_NAMES))  # the first models did not say
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(f"{path}: not valid JSON of a model ({error})") from None
    if found != (FORMAT, kind):
        raise InputError(f"{path}: format and kind are {found}, expected {(FORMAT, kind)}")
    if classes != list(PARTICLE_NAMES):
        raise InputError(f"{path}: the model is for the classes {classes}, expected {list(PARTICLE_NAMES)}")
    try:
        yield description
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: {error!r}; expected what a {kind} model needs, a finite threshold per particle, provenance"
        ) from None


class Common(TypedDict):
    """What models of every kind have."""

    thresholds: tuple[float, ...]
    calibration: Calibration | None
    provenance: dict[str, Any]


def common(description: dict[str, Any]) -> Common:
    """What models of every kind have; raises what `read_description` puts a name to."""
    thresholds = tuple(float(description["thresholds"][name]) for name in PARTICLE_NAMES)
    if not all(math.isfinite(threshold) for threshold in thresholds):
        raise ValueError(f"thresholds {thresholds}")
    found = description.get("calibration")  # models of old have none
    calibration = None if found is None else Calibration.from_json_dict(found)
    return Common(thresholds=thresholds, calibration=calibration, provenance=dict(description["provenance"]))


def with_weights(
    network: nn.Module, directory: Path, settings: object, *, expected_digest: str | None = None
) -> nn.Module:
    """The network with the weights of a folder, in evaluation mode.

    Raises
    ------
    InputError
        If the weights are missing, not whole, not those with the expected sha256, if there is one, or do not fit the
        network that was built from `settings`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
    found_digest = weights_digest(directory)
    if expected_digest is not None and found_digest != expected_digest:  # last: a truncated file has a clearer fault
        raise InputError(
            f"{path}: not the weights that {DESCRIPTION_FILE} describes: its sha256 is {found_digest}, "
            f"expected {expected_digest}"
        )
    return network.eval()


def weights_digest(directory: Path) -> str:
    """What tells the weights of a model folder from others."""
    return hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
