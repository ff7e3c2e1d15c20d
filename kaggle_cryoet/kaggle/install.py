"""Install a bundle into the running Python without a network: `python install.py`, in the bundle's folder or from afar.

Stands alone: this file lies in the bundle beside the wheels and `MANIFEST.json`, and runs before anything of the
package can be imported. Every file is checked against the manifest first. Packages that are there already stay as they
are.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
FOLDERS = ("YOLO_CONFIG_DIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
"""Variables that say where libraries write when they are imported."""
QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
"""Variables that keep ultralytics off the network."""


class BundleError(Exception):
    """The bundle cannot be installed; the message says why, on one line."""


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The content of `MANIFEST.json`."""
    try:
        manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_text(encoding="utf8"))
        if manifest["format"] != 1:
            raise BundleError(f"{bundle / MANIFEST} is of format {manifest['format']}, expected 1")
    except FileNotFoundError:
        raise BundleError(f"{bundle} is no bundle: {MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{bundle / MANIFEST} cannot be read: {error!r}") from None
    return manifest


def check_files(bundle: Path, files: dict[str, dict[str, Any]]) -> None:
    """Compare size and sha256 of every file of the manifest.

    Raises
    ------
    BundleError
        If files are missing or altered; all of them are named.
    """
    missing = [name for name in files if not (bundle / name).is_file()]
    altered = [
        name
        for name, expected in files.items()
        if name not in missing and hashlib.sha256((bundle / name).read_bytes()).hexdigest() != expected["sha256"]
    ]
    faults = [f"{' and '.join(names)} {word}" for names, word in ((missing, "missing"), (altered, "altered")) if names]
    if faults:
        raise BundleError(f"{bundle} is not as it was made: {'; '.join(faults)}. Make it and upload it again")


def choose_wheels(wheels: list[dict[str, Any]], python: str) -> list[dict[str, Any]]:
    """The wheel of each package that suits a Python such as `3.12`.

    Raises
    ------
    BundleError
        If a package has none.
    """
    chosen = {wheel["name"]: wheel for wheel in wheels if wheel["python"] in (None, python)}
    absent = sorted({wheel["name"] for wheel in wheels} - set(chosen))
    if absent:
        there = sorted({wheel["python"] for wheel in wheels if wheel["python"]})
        raise BundleError(
            f"no wheels for Python {python} of {', '.join(absent)}; there are some for {' and '.join(there)}"
        )
    return list(chosen.values())


def installed_versions() -> dict[str, str]:
    """Version of every installed package, by normalised name."""
    return {
        re.sub(r"[-_.]+", "-", found.name).lower(): found.version
        for found in importlib.metadata.distributions()
        if found.name
    }


def is_installed(name: str, wheel: Path) -> bool:
    """Whether the very files of a wheel are installed, by the hashes in its record and in that of the installation."""
    try:
        installed = importlib.metadata.distribution(name).read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return False
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/RECORD"))
        wanted = archive.read(record).decode().splitlines()
    return {line for line in wanted if "sha256=" in line} <= set(installed.splitlines())


def install(bundle: Path) -> list[str]:
    """Install what is not there yet, and the package itself in any case; returns what was done, in lines to print."""
    started = time.monotonic()
    manifest = read_manifest(bundle)
    check_files(bundle, manifest["files"])
    wheels = choose_wheels(manifest["wheels"], f"{sys.version_info[0]}.{sys.version_info[1]}")
    before = installed_versions()
    new = [wheel for wheel in wheels if wheel["name"] not in before]
    own = [wheel for wheel in wheels if wheel["own"] and not is_installed(wheel["name"], bundle / wheel["file"])]
    lines = [f"{len(manifest['files'])} files are as they were made"]
    lines += [f"{wheel['name']} {before[wheel['name']]} is there already" for wheel in wheels if wheel not in new + own]
    _pip([bundle / wheel["file"] for wheel in new if not wheel["own"]])
    _pip([bundle / wheel["file"] for wheel in own], "--force-reinstall")
    after = installed_versions()
    changed = [name for name, version in before.items() if after.get(name) != version and not _is(name, own)]
    if changed:
        raise BundleError(f"the version of {', '.join(changed)} has changed, which must not be")
    _import([name for wheel in wheels for name in wheel["imports"]])
    lines += [f"installed {wheel['name']} {wheel['version']}" for wheel in wheels if wheel in new + own]
    lines += [f"WARNING: {said}" for wheel in wheels if wheel["own"] for said in _unmet(wheel["name"])]
    return [*lines, f"ready after {time.monotonic() - started:.0f} s"]


def _is(name: str, wheels: list[dict[str, Any]]) -> bool:
    return any(wheel["name"] == name for wheel in wheels)


def _pip(files: list[Path], *options: str) -> None:
    """Install wheels, and nothing else than these."""
    if not files:
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore", *options, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise BundleError(f"pip ended with status {done.returncode}: {said}")


def _unmet(name: str) -> list[str]:
    """What pip says of requirements of a package that what is installed does not meet."""
    command = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [line for line in said.splitlines() if line.startswith(f"{name} ")]


def _import(names: list[str]) -> None:
    """Import modules in a process of their own; what they write when they are imported is gone afterwards."""
    lines = ["import importlib"]
    if {"kaggle_cryoet", "monai"} <= set(names):  # these open a socket unless they are imported as the package does
        lines += ["from kaggle_cryoet.models.offline_monai import offline_monai", "offline_monai()"]
    if {"kaggle_cryoet", "ultralytics"} <= set(names):
        lines += ["from kaggle_cryoet.models.yolo11 import offline_ultralytics", "offline_ultralytics()"]
    script = "\n".join([*lines, f"for name in {names!r}:", "    importlib.import_module(name)"])
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | dict.fromkeys(FOLDERS, folder) | QUIET
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise BundleError(f"installed, but not to be imported: {said[-1]}")


def main() -> int:
    """Install the bundle that this file lies in."""
    try:
        print("\n".join(install(Path(__file__).resolve().parent)))
    except BundleError as error:
        print(f"install.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
