"""What goes wrong in a training, wherever it did, as one line that says what to do."""

import builtins
import errno
import re
from pathlib import Path
from typing import NoReturn

from torch.multiprocessing.spawn import ProcessRaisedException

from kaggle_cryoet.errors import InputError

UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
)
"""What a disk says that has no room or is broken, and one that may not be written to or has something else there."""
_RAISED = re.compile(r"^(\w[\w.]*(?:Error|Exception|Exit|Interrupt)): ", re.MULTILINE)
"""The line of a trace that says what was raised."""


def raise_as_here(error: Exception, output: Path, *, smaller: str) -> NoReturn:
    """Raise what went wrong here, in a loader or in the process of a device, as what the user can mend.

    Parameters
    ----------
    error
        As it was caught.
    output
        Folder that is written to.
    smaller
        How batches are made smaller, should memory be short.
    """
    name, said = type(error).__name__, str(error)
    if isinstance(error, ProcessRaisedException) or said.startswith("Caught "):  # and then the trace of elsewhere
        name, said = _end_of_trace(said)
    if name.endswith("InputError"):
        raise InputError(said) from error
    if said.startswith("DataLoader worker"):
        raise InputError(
            f"a process that prepares crops or images was ended from outside ({said.rstrip(' .')}); was memory short?"
        ) from error
    if name.endswith("OutOfMemoryError"):
        raise InputError(f"{said.partition('. ')[0]}; smaller batches need less{smaller}") from error
    kind = type(error) if isinstance(error, OSError) else getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, OSError):
        number = re.search(r"\[Errno (\d+)\]", said)
        unwritable = number is not None and int(number[1]) in UNWRITABLE
        fault = "cannot be written" if unwritable else f"the training ended: {name}"
        raise InputError(f"{output}: {fault} ({said}); what was saved before is whole") from error
    raise error


def _end_of_trace(trace: str) -> tuple[str, str]:
    """Name and message, of one line or more, of what a trace ends with."""
    raised = list(_RAISED.finditer(trace))
    if not raised:
        return "", trace.strip()
    return raised[-1][1], trace[raised[-1].end() :].strip()
