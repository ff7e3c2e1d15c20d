"""Files that are there as a whole or not at all, and files and folders that one process writes at a time."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from kaggle_cryoet.errors import InputError

logger = logging.getLogger(__name__)


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as a whole, and the folder it lies in.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with whole_file(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep every other process that asks likewise from writing a file for as long as this one does.

    Its folder is created if the folder above exists. Where a folder cannot be locked, nothing is kept from anything;
    whoever writes there says what is wrong with it.

    Raises
    ------
    InputError
        If another process is the sole writer.
    """
    from filelock import FileLock, Timeout

    folder = path.absolute().parent
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    if not path.name or not folder.is_dir():  # a lock would make all that is above it
        yield
        return
    lock_path = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{path}: is being written by another process; expected another place for each") from None
    except (OSError, NotImplementedError) as error:  # read-only, or a file system without locks
        logger.info("%s: cannot be locked (%s)", path, error)
    try:
        yield
    finally:
        if lock.is_locked:
            lock_path.unlink(missing_ok=True)  # before others may have it
            lock.release()


@contextmanager
def sole_folder(folder: Path) -> Iterator[None]:
    """Make a folder if there is none, and keep other processes that ask likewise out of it meanwhile.

    If something fails before there is anything in it, a new folder is gone again.

    Raises
    ------
    InputError
        If it is a file, cannot be made, or another process is the sole writer.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder to write into")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}") from error
    with sole_writer(folder.resolve()):
        try:
            yield
        except BaseException:
            if is_new:
                with suppress(OSError):  # which it raises if there is something in it
                    folder.rmdir()
            raise
