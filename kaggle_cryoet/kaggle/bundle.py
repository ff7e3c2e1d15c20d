"""The bundle: a folder to upload with `kaggle datasets create`, from which the package installs without a network."""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_cryoet import __version__
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.kaggle import install
from kaggle_cryoet.kaggle.wheel import build_wheel, source_tree

LOCK = "requirements.txt"
SLUG = "kaggle-cryoet"
NO_OWNER = "INSERT-YOUR-KAGGLE-NAME"
SUBTITLE = "Particle picking in cryo-electron tomograms, installable offline"
DESCRIPTION = (
    "The kaggle_cryoet package (MIT) with trained weights, and wheels that Kaggle's image lacks, each under its own "
    "licence: ultralytics AGPL-3.0; connected-components-3d LGPL-3.0-or-later; lightning, lightning-utilities, "
    "torchmetrics, monai, safetensors, google-crc32c Apache-2.0; zarr, numcodecs, donfig MIT; mrcfile BSD-3-Clause. "
    "Install with `python install.py`."
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A finished bundle."""

    directory: Path
    sizes: dict[str, int]
    """Bytes of each file."""


def make_bundle(
    output: str | Path,
    *,
    wheels: str | Path | None = None,
    weights: str | Path | None = None,
    owner: str = "",
) -> Bundle:
    """Build the package's wheel and put it into a folder with the other wheels, the installer and the metadata.

    Parameters
    ----------
    output
        Folder to make; one that holds an earlier bundle is made anew.
    wheels
        Folder with the lock, `requirements.txt`, and the wheels it names, as `make wheels` leaves it; that of the
        source tree if not given.
    weights
        Model folder to ship in place of the package's own of that kind, or a folder of such folders.
    owner
        User name on Kaggle, as in kaggle.com/NAME, of who will own the dataset; a placeholder to replace if not given.

    Raises
    ------
    InputError
        If this is no source tree, wheels are missing or not those of the lock, there are no weights, or the folder
        cannot be written.
    """
    output = Path(output)
    check_owner(owner)
    source = source_tree()
    wheels = source / "wheels" if wheels is None else Path(wheels)
    locked = locked_wheels(wheels)
    with tempfile.TemporaryDirectory() as temporary:
        own = build_wheel(source, Path(temporary), weights)  # weights that cannot be used cost no earlier bundle
        try:
            _clear(output)
            output.mkdir(parents=True, exist_ok=True)
            files = [shutil.copy(path, output) for path in (*locked, own)]
            files.append(shutil.copy(install.__file__, output / "install.py"))
            _write_json(output / "dataset-metadata.json", _metadata(owner))
            _write_json(output / install.MANIFEST, _manifest([Path(path) for path in files]))
        except OSError as error:
            raise InputError(f"{output}: cannot be written: {error}") from error
    sizes = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    return Bundle(directory=output, sizes=sizes)


def check_owner(owner: str) -> None:
    """Raise an `InputError` if this can be no user name on Kaggle; none at all may be."""
    if owner and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", owner):
        raise InputError(f"expected a user name as in kaggle.com/NAME, of letters, digits and hyphens, got {owner!r}")


def locked_wheels(directory: Path) -> list[Path]:
    """Wheels in a folder that its lock names, once their hashes are found right.

    Raises
    ------
    InputError
        If the lock or wheels are missing.
    """
    try:
        lock = (directory / LOCK).read_text(encoding="utf8")
    except OSError as error:
        raise InputError(f"{directory}: the lock {LOCK} cannot be read ({error.strerror})") from None
    by_hash = {_sha256(path): path for path in sorted(directory.glob("*.whl"))}
    found, absent = [], []
    for entry in re.findall(r"^[^#\s].*", lock.replace("\\\n", " "), re.M):
        name = entry.split()[0]
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
        if not hashes or "==" not in name:
            raise InputError(f"{directory / LOCK}: expected name==version with hashes, got {name}")
        found += [by_hash[value] for value in hashes if value in by_hash]
        absent += [name] if any(value not in by_hash for value in hashes) else []
    if absent:
        raise InputError(
            f"{directory}: no wheels with the hashes of the lock for {', '.join(absent)}; run `make wheels`"
        )
    return found


def _clear(output: Path) -> None:
    """Remove the files of an earlier bundle; a folder with anything else is not touched."""
    if not output.exists():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not (output / install.MANIFEST).is_file():
        raise InputError(f"{output}: holds something that is no bundle; expected an empty or a new folder")
    try:
        files = install.read_manifest(output)["files"]
    except install.BundleError as error:
        raise InputError(f"{output}: holds a bundle that is not known: {error}; remove it") from None
    known = {*files, "dataset-metadata.json", install.MANIFEST}
    strange = sorted({path.name for path in output.iterdir()} - known)
    if strange:
        raise InputError(f"{output}: holds {', '.join(strange[:5])} beside an earlier bundle; expected nothing else")
    for name in known:
        (output / name).unlink(missing_ok=True)


def _metadata(owner: str) -> dict[str, Any]:
    return {
        "title": "kaggle_cryoet: offline wheels and weights",
        "id": f"{owner or NO_OWNER}/{SLUG}",
        "subtitle": SUBTITLE,
        "description": DESCRIPTION,
        "licenses": [{"name": "other"}],
    }


def _manifest(files: list[Path]) -> dict[str, Any]:
    return {
        "format": 1,
        "version": __version__,
        "files": {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(files)},
        "wheels": [_wheel_entry(path) for path in sorted(files) if path.suffix == ".whl"],
    }


def _wheel_entry(path: Path) -> dict[str, Any]:
    """What the installer must know of a wheel; what it imports is read from the wheel itself."""
    name, version, *_, python_tag, abi_tag, _ = path.stem.split("-")
    modules = re.compile(r"([A-Za-z]\w*)/__init__\.py")
    with zipfile.ZipFile(path) as archive:
        imports = sorted({found[1] for entry in archive.namelist() if (found := modules.fullmatch(entry))})
    interpreter = re.fullmatch(r"cp3(\d+)", python_tag) if abi_tag == python_tag else None
    return {
        "file": path.name,
        "name": name.replace("_", "-").lower(),
        "version": version,
        "python": f"3.{interpreter[1]}" if interpreter else None,
        "imports": imports,
        "own": name == "kaggle_cryoet",
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
