"""Files that are there as a whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from kaggle_cryoet.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` at the end; if anything fails before, that is as it was.

    Until then the file has a hidden name of its own beside it, which begins with a dot and the name of `path`.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    if not path.name:
        raise InputError(f"{path}: is a folder; expected the name of a file to write")
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
