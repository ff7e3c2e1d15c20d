"""What was interrupted is gone on with as it began, or not at all; what is done is not written over."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kaggle_cryoet.errors import InputError
from kaggle_cryoet.picks import Picks


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], *, what: str, mend: str = "") -> None:
    """Raise an `InputError` that names all that differs between two notes, as they read in JSON.

    Parameters
    ----------
    before
        What it began with.
    now
        What is asked for; of mappings in it each entry is compared.
    what
        That which is to be gone on with.
    mend
        What to do about it, if there is something.
    """
    asked, begun = (_entries({name: note.get(name) for name in now}) for note in (now, before))
    changed = sorted(name for name in {*asked, *begun} if asked.get(name) != begun.get(name))
    if changed:
        raise InputError(f"{what} is gone on with as it began, but {', '.join(changed)} changed{mend}")


def check_unused(output: Path, checkpoint: Path, models: Iterable[Path]) -> None:
    """Raise an `InputError` if a folder for a new training holds one already, or one of the models it would write."""
    if checkpoint.exists():
        raise InputError(f"{output} holds a training already; resume it or choose another folder")
    for model in models:
        if model.exists():
            name = model.relative_to(output)
            raise InputError(
                f"{output} holds a model, {name}, and no checkpoint to resume from; remove it or choose another folder"
            )


def picks_digest(picks: Iterable[Picks]) -> str:
    """What tells labelled tomograms from others of their names, wherever they are: a digest of labels and centres."""
    digest = hashlib.sha256()
    for found in picks:
        digest.update(found.label.astype("<i8").tobytes())
        digest.update(found.position_zyx_angstrom.astype("<f8").tobytes())
    return digest.hexdigest()[:16]


def _entries(note: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, those of mappings as `mapping.name`, as they read in JSON."""
    entries: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(note)).items():
        inner = value.items() if isinstance(value, Mapping) else ()
        entries |= {f"{name}.{part}": entry for part, entry in inner} if inner else {name: value}
    return entries
