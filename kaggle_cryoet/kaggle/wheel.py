"""The package's own wheel, with weights in it, built from the source tree."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.jobs import UNET_FOLDER
from kaggle_cryoet.models.store import load_unet

SOURCE_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
"""What a wheel is built from, besides the package."""


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
        Folder of a 3D U-Net to ship in place of the package's own.

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
    """Put weights in place and see that they can be read."""
    target = directory / UNET_FOLDER
    if weights is not None:
        weights = Path(weights)
        weights = weights / UNET_FOLDER if (weights / UNET_FOLDER).is_dir() else weights
        load_unet(weights)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(weights, target)
    load_unet(target)
