"""Settings changed by name: `training.loss.name=focal`, `crops.rotation_degrees=5`."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from kaggle_cryoet.errors import InputError

T = TypeVar("T")


def override(settings: T, changes: Sequence[str]) -> T:
    """Settings with some fields, at any depth, of other values: JSON, or text as it is.

    Raises
    ------
    InputError
        If there is no such field, or its value is of another type or not allowed.
    """
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"{change!r}: expected NAME=VALUE, such as training.loss.name=focal")
        settings = _with(settings, name.strip().split("."), text.strip(), change)
    return settings


def _with(settings: Any, path: Sequence[str], text: str, change: str) -> Any:
    """The settings with one field changed."""
    names = [field.name for field in dataclasses.fields(settings)] if dataclasses.is_dataclass(settings) else []
    if path[0] not in names:
        expected = f"expected one of {', '.join(names)}" if names else "it has no fields"
        raise InputError(f"{change!r}: there is no {path[0]!r}; {expected}")
    present = getattr(settings, path[0])
    value = _with(present, path[1:], text, change) if len(path) > 1 else _read(present, text, change)
    return dataclasses.replace(settings, **{path[0]: value})


def _read(present: object, text: str, change: str) -> object:
    """A value of the type of the present one."""
    try:
        value = text if isinstance(present, str) else json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(present, tuple) and isinstance(value, list):
        return tuple(value)
    if dataclasses.is_dataclass(present) or type(value) is not type(present):
        raise InputError(f"{change!r}: expected a value like {present!r}, got {text!r}")
    return value
