"""What was interrupted is gone on with as it began, or not at all."""

import json
from collections.abc import Mapping
from typing import Any

from kaggle_cryoet.errors import InputError


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


def _entries(note: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, those of mappings as `mapping.name`, as they read in JSON."""
    entries: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(note)).items():
        inner = value.items() if isinstance(value, Mapping) else ()
        entries |= {f"{name}.{part}": entry for part, entry in inner} if inner else {name: value}
    return entries
