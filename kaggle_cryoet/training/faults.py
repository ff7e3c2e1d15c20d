"""What goes wrong in a training, wherever it did, as one line that says what to do."""

import builtins
from pathlib import Path
from typing import NoReturn

from torch.multiprocessing.spawn import ProcessRaisedException

from kaggle_cryoet.errors import InputError


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
        name, _, said = said.strip().splitlines()[-1].partition(": ")
    if name.endswith("InputError"):
        raise InputError(said) from error
    if name.endswith("OutOfMemoryError"):
        raise InputError(f"{said.partition('. ')[0]}; smaller batches need less{smaller}") from error
    kind = type(error) if isinstance(error, OSError) else getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, OSError):
        raise InputError(f"{output}: cannot be written ({said}); what was saved before is whole") from error
    raise error
