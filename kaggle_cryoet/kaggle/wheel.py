"""The package's own wheel, with weights in it, built from the source tree."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.models.store import DESCRIPTION_FILE, load_hybrid, load_unet, load_yolo
from kaggle_cryoet.picking.branches import HYBRID_FOLDER, UNET_FOLDER, YOLO_FOLDER

SOURCE_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
"""What a wheel is built from, besides the package."""
LOADERS: dict[str, Callable[[Path], object]] = {
    UNET_FOLDER: load_unet,
    YOLO_FOLDER: load_yolo,
    HYBRID_FOLDER: load_hybrid,
}
"""What reads a model, by the name of its folder, which is also its kind."""


def source_tree() -> Path:
    """Folder of the clone that the package runs from.

    Raises
    ------
    InputError
        If it is installed otherwise.
    """
    source = Path(__file__).parent.parent.parent
    if not all((source / name).is_file() for name in SOURCE_FILES):
        raise InputError(f"{source} is not the source tree; a bundle is made in a clone of the repository")
    return source


def build_wheel(source: Path, output: Path, weights: str | Path | None = None) -> Path:
    """Build the wheel from a copy of a source tree, which stays as it is, into a folder.

    Parameters
    ----------
    source
        The source tree.
    output
        Where to put the wheel.
    weights
        Model folder to ship in place of the package's own of that kind, or a folder of such folders.

    Raises
    ------
    InputError
        If there are no weights, they cannot be used, or the build fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        for name in SOURCE_FILES:
            shutil.copy(source / name, tree)
        package = shutil.copytree(
            source / "kaggle_cryoet", tree / "kaggle_cryoet", ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
        _place_weights(package / "weights", weights)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        command += ["--disable-pip-version-check", "--wheel-dir", str(tree / "dist"), str(tree)]
        same_time = {"SOURCE_DATE_EPOCH": "1700000000"}  # the same tree gives the same wheel
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | same_time)
        if done.returncode:
            raise InputError(f"the wheel cannot be built (setuptools 77 or newer is needed): {done.stderr[-400:]}")
        (wheel,) = (tree / "dist").glob("*.whl")
        return Path(shutil.copy(wheel, output))


def _place_weights(directory: Path, weights: str | Path | None) -> None:
    """Put models in place, and see that all that are there can be read."""
    for kind, folder in _models_in(weights).items():
        shutil.rmtree(directory / kind, ignore_errors=True)
        shutil.copytree(folder, directory / kind)
    load_unet(directory / UNET_FOLDER)  # the least that there must be
    for kind, load in LOADERS.items():
        if (directory / kind).is_dir():
            load(directory / kind)


def _models_in(weights: str | Path | None) -> dict[str, Path]:
    """Model folders by kind: those in a folder, or the folder itself, which may have any name then."""
    if weights is None:
        return {}
    weights = Path(weights)
    found = {kind: weights / kind for kind in LOADERS if (weights / kind).is_dir()}
    if found:
        return found
    path = weights / DESCRIPTION_FILE
    try:
        kind = json.loads(path.read_text(encoding="utf8"))["kind"]
        return {kind: weights} if kind in LOADERS else {UNET_FOLDER: weights}
    except FileNotFoundError:
        raise InputError(f"{weights}: {DESCRIPTION_FILE} is missing; expected {' or '.join(LOADERS)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not valid JSON of a model ({error!r})") from None
