"""Folders of simulated runs in the competition's layout: a run appears whole or not at all, and none of another set."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaggle_cryoet.copick import write_copick
from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks
from kaggle_cryoet.tomogram import Tomogram, write_tomogram

logger = logging.getLogger(__name__)

_PARTS = ("static", "overlay", "provenance")
_UNFINISHED = ".unfinished"


def write_run(
    output: Path, name: str, tomograms: Mapping[str, Tomogram], picks: Picks, provenance: Mapping[str, object]
) -> None:
    """Write a run beside its place, then move it there: provenance, picks and, last, its tomograms."""
    unfinished = output / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    spacing = unfinished / "static" / name / "VoxelSpacing10.000"
    try:
        spacing.mkdir(parents=True)
        for tomogram_type, tomogram in tomograms.items():
            write_tomogram(spacing / f"{tomogram_type}.zarr", tomogram)
        write_copick(unfinished / "overlay" / name / "Picks", picks, name)
        (unfinished / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf8")
        overlay = output / "overlay" / "ExperimentRuns" / name
        shutil.rmtree(overlay, ignore_errors=True)  # of a run that was interrupted here
        for directory in (output / "provenance", overlay.parent, output / "static" / "ExperimentRuns"):
            directory.mkdir(parents=True, exist_ok=True)
        (unfinished / "provenance.json").replace(output / "provenance" / f"{name}.json")
        (unfinished / "overlay" / name).rename(overlay)
        spacing.parent.rename(output / "static" / "ExperimentRuns" / name)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def finished_runs(
    output: Path, names: Sequence[str], request: Mapping[str, object], made_by: Mapping[str, str | None]
) -> set[str]:
    """Runs of this very request that are there already; anything else in the directory is an error.

    Of runs that were `made_by` another version or commit a warning is given: they are of the same request, but may be
    of another simulator.
    """
    strangers = {entry.name for entry in output.iterdir()} - {*_PARTS, _UNFINISHED}
    runs = output / "static" / "ExperimentRuns"
    present = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
    strangers |= {name for name in present - set(names) if not (output / "provenance" / f"{name}.json").is_file()}
    if strangers:
        raise InputError(f"{output} is not empty and holds something else: {', '.join(sorted(strangers)[:3])}")
    elsewhere = []
    for name in sorted(present):
        provenance = _read_provenance(output / "provenance" / f"{name}.json")
        if provenance.get("request") != request:
            raise InputError(f"{output} holds run {name} of another request; choose an empty directory")
        if any(provenance.get(key) != value for key, value in made_by.items()):
            elsewhere.append(name)
    if elsewhere and not present >= set(names):
        logger.warning(
            "%s: %s were simulated by other source code than runs to come will be, and may differ from them",
            output,
            ", ".join(elsewhere[:3]) + (" and others" if len(elsewhere) > 3 else ""),
        )
    return present


def _read_provenance(path: Path) -> dict[str, object]:
    """What a run was made from; nothing if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
