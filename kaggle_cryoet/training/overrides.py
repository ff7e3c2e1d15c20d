"""Settings changed by name: `training.loss.name=focal`, `crops.rotation_degrees=5`."""

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from kaggle_cryoet.errors import InputError

T = TypeVar("T")


_Change = tuple[Sequence[str], str, str]
"""Names on the way to a field, what it shall be, and the change as it was given."""


def override(settings: T, changes: Sequence[str]) -> T:
    """Settings with some fields, at any depth, of other values: JSON, or text as it is; of two for one the last counts.

    Raises
    ------
    InputError
        If there is no such field, or its value is of another type or, together with all others, not allowed.
    """
    read: list[_Change] = []
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"{change!r}: expected NAME=VALUE, such as training.loss.name=focal")
        read.append((name.strip().split("."), text.strip(), change))
    return _with(settings, read) if read else settings


def _with(settings: Any, changes: Sequence[_Change]) -> Any:
    """The settings with fields changed, all at once, since some values are allowed only together."""
    names = [field.name for field in dataclasses.fields(settings)] if dataclasses.is_dataclass(settings) else []
    of_field: dict[str, list[_Change]] = {}
    for path, text, change in changes:
        if path[0] not in names:
            expected = f"expected one of {', '.join(names)}" if names else "it has no fields"
            raise InputError(f"{change!r}: there is no {path[0]!r}; {expected}")
        of_field.setdefault(path[0], []).append((path[1:], text, change))
    values = {}
    for name, inner in of_field.items():
        value = getattr(settings, name)
        for path, text, change in inner:
            if not path:
                value = _read(typing.get_type_hints(type(settings))[name], value, text, change)
        deeper = [item for item in inner if item[0]]
        values[name] = _with(value, deeper) if deeper else value
    return dataclasses.replace(settings, **values)


def _read(hint: Any, present: object, text: str, change: str) -> object:
    """A value of the type of a field: what the text says as JSON, or the text."""
    readings: list[object] = [text]
    with contextlib.suppress(json.JSONDecodeError):
        readings.insert(0, json.loads(text))
    for value in readings:
        with contextlib.suppress(TypeError, ValueError):
            return _convert(value, hint)
    expected = f"a value like {present!r}" if present is not None else str(hint)
    raise InputError(f"{change!r}: expected {expected}, got {text!r}")


def _convert(value: object, hint: Any) -> object:
    """The value as what a type asks for; raises TypeError or ValueError if it is something else."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            with contextlib.suppress(TypeError, ValueError):
                return _convert(value, part)
    elif origin is tuple and isinstance(value, list):
        of_items = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_convert(item, of_item) for item, of_item in zip(value, of_items, strict=True))
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif type(value) is (str if origin is typing.Literal else hint):
        return value
    raise TypeError
